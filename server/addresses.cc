#include "server/addresses.h"

#include "wire/limits.h"

#include <algorithm>
#include <arpa/inet.h>
#include <ifaddrs.h>
#include <memory>
#include <net/if.h>
#include <netinet/in.h>
#include <sstream>

namespace slipway {

namespace {

struct Address {
  std::string text;
  bool loopback = false;
};

bool is_usable(const in6_addr& address) noexcept {
  // A link-local address means nothing without the client's own interface.
  return !IN6_IS_ADDR_LINKLOCAL(&address) && !IN6_IS_ADDR_UNSPECIFIED(&address);
}

// Nothing for what is not a numeric address that another machine could dial.
Address parse(const std::string& text) {
  in_addr v4{};
  in6_addr v6{};
  if (::inet_pton(AF_INET, text.c_str(), &v4) == 1)
    return {text, (ntohl(v4.s_addr) >> 24) == 127};
  if (::inet_pton(AF_INET6, text.c_str(), &v6) == 1 && is_usable(v6))
    return {text, IN6_IS_ADDR_LOOPBACK(&v6) != 0};
  return {};
}

Address of_interface(const struct ifaddrs& interface) {
  if (interface.ifa_addr == nullptr || (interface.ifa_flags & IFF_UP) == 0)
    return {};
  char text[INET6_ADDRSTRLEN] = "";
  const void* const raw = interface.ifa_addr;
  if (interface.ifa_addr->sa_family == AF_INET)
    ::inet_ntop(AF_INET, &static_cast<const sockaddr_in*>(raw)->sin_addr, text, sizeof text);
  else if (interface.ifa_addr->sa_family == AF_INET6)
    ::inet_ntop(AF_INET6, &static_cast<const sockaddr_in6*>(raw)->sin6_addr, text, sizeof text);
  return parse(text);
}

std::vector<Address> of_interfaces() {
  std::vector<Address> found;
  struct ifaddrs* list = nullptr;
  if (::getifaddrs(&list) != 0)
    return found;
  const std::unique_ptr<struct ifaddrs, decltype(&::freeifaddrs)> owner(list, &::freeifaddrs);
  for (const struct ifaddrs* i = list; i != nullptr; i = i->ifa_next) {
    Address address = of_interface(*i);
    if (!address.text.empty())
      found.push_back(std::move(address));
  }
  return found;
}

}  // namespace

std::vector<std::string> data_addresses(const std::string& ssh_connection) {
  std::istringstream fields(ssh_connection);
  std::string client_host;
  std::string client_port;
  std::string server_host;
  fields >> client_host >> client_port >> server_host;
  const Address server = parse(server_host);

  std::vector<Address> all = of_interfaces();
  const bool is_local = ssh_connection.empty() || server.loopback;
  const bool has_other =
      std::any_of(all.begin(), all.end(), [](const Address& a) { return !a.loopback; });
  if (is_local)
    std::stable_partition(all.begin(), all.end(), [](const Address& a) { return a.loopback; });
  else if (has_other)
    std::erase_if(all, [](const Address& a) { return a.loopback; });

  std::vector<std::string> addresses;
  if (!server.text.empty())
    addresses.push_back(server.text);
  for (const Address& address : all) {
    if (addresses.size() < kAddressesMax &&
        std::find(addresses.begin(), addresses.end(), address.text) == addresses.end())
      addresses.push_back(address.text);
  }
  return addresses;
}

}  // namespace slipway
