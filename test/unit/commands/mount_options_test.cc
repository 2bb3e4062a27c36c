#include "commands/mount_options.h"
#include "commands/default_cache.h"

#include <cstdlib>

#include "support/catch.h"

using namespace slipway;

namespace {

constexpr Mounter kUser{1000, 1000};
constexpr Mounter kRoot{0, 0};

Result<MountOptions> parse(const std::string& options, const Mounter& who = kUser,
                           const std::string& source = "host:/vms") {
  return parse_mount_options(source, "/mnt", {options}, who);
}

std::string error_of(const std::string& options, const Mounter& who = kUser) {
  const auto result = parse(options, who);
  return result ? "accepted" : result.error().message;
}

}  // namespace

TEST_CASE("a source is [user@]host:/dir or local:/dir") {
  const auto m = parse("", kUser, "ann@image-server:/srv/vms").value();
  CHECK(m.connect.user == "ann");
  CHECK(m.connect.host == "image-server");
  CHECK(m.export_path == "/srv/vms");
  CHECK_FALSE(m.connect.local);
  CHECK(parse("", kUser, "local:/vms")->connect.local);
  CHECK(parse("", kUser, "host:")->export_path == ".");
  CHECK(parse("", kUser, "host:vms")->export_path == "vms");
  CHECK(parse("", kUser, "[2001:db8::1]:/vms")->connect.host == "2001:db8::1");
  CHECK(parse("", kUser, "ann@[2001:db8::1]:/vms")->connect.host == "2001:db8::1");
  CHECK(parse("", kUser, "ann@[2001:db8::1]:/vms")->export_path == "/vms");
}

TEST_CASE("a source that could be taken for an option of ssh is refused") {
  for (const char* bad : {"", "nocolon", ":/dir", "-oProxyCommand=x:/dir", "ann@-host:/dir",
                          "-x@host:/dir", "@host:/dir", "local:relative"}) {
    CAPTURE(bad);
    CHECK_FALSE(parse("", kUser, bad).has_value());
  }
}

TEST_CASE("options of ours are read with their units") {
  const auto m = parse("cache=/c,cache_size=2G,cache_min_free=7%,verify=always,readahead=8M,"
                       "connections=16,compress=no,transport=tcp,io_timeout=2.5,soft,attr_timeout=0,"
                       "umask=027")
                     .value();
  CHECK(m.cache.directory == "/c");
  CHECK(m.cache.size_max == std::uint64_t{2} << 30);
  CHECK(m.cache.min_free_percent == 7);
  CHECK(m.cache.verify == CacheOptions::Verify::kAlways);
  CHECK(m.readahead_max == std::uint64_t{8} << 20);
  CHECK(m.connections == 16);
  CHECK_FALSE(m.compress);
  CHECK(m.transport == RemoteOptions::Transport::kTcpOnly);
  CHECK(m.io_timeout == std::chrono::milliseconds(2500));
  CHECK(m.soft);
  CHECK(m.attr_timeout == Duration::zero());
  CHECK(m.umask == 027);
  CHECK(parse("readahead=off")->readahead_max == 0);
}

TEST_CASE("a comma or backslash inside a value is escaped") {
  CHECK(parse("cache=/a\\,b\\\\c,soft")->cache.directory == "/a,b\\c");
}

TEST_CASE("ssh's names are taken in any case, and several identity files add up") {
  const auto m = parse("Port=2222,identityfile=/a,IdentityFile=/b,ProxyJump=j").value();
  CHECK(m.connect.ssh_options.at("port") == "2222");
  CHECK(m.connect.ssh_options.at("identityfile") == "/a\n/b");
  CHECK(m.connect.ssh_options.at("proxyjump") == "j");
}

TEST_CASE("fstab's generic options are accepted") {
  for (const char* option :
       {"ro", "rw", "defaults", "auto", "noauto", "user", "user=ann", "users", "_netdev", "nofail",
        "suid", "dev", "nosuid", "nodev", "exec", "noexec", "noatime", "relatime",
        "x-systemd.automount", "x-systemd.device-timeout=3", "X-mount.mkdir", "comment=mine",
        "fsname=a", "subtype=slipway", "owner", "group", "async", "silent", "lazytime"}) {
    CAPTURE(option);
    CHECK(error_of(option) == "accepted");
  }
}

TEST_CASE("typos, bad values and contradictions are refused by name") {
  CHECK(error_of("cahce_size=1G").find("did you mean 'cache_size'") != std::string::npos);
  for (const char* bad :
       {"cache", "cache_size=", "cache_size=-1", "cache_size=1Q", "cache_min_free=100",
        "verify=never", "connections=0", "connections=17", "compress=zip", "cipher=rot13",
        "transport=udp", "io_timeout=soon", "soft=maybe", "attr_timeout=-1", "idmap=all",
        "uid=-1", "umask=999", "idmap=none,uid=4", "server_command=a,subsystem=b",
        "ssh_command=ssh,ssh_config=/f", "transport=ssh,data_address=10.0.0.1", "remount",
        "connections=2,transport=ssh", "cipher=auto,transport=ssh", "data_address=host",
        "cache_size=0", "Port=0", "Port=65536", "port=x", "ConnectTimeout=soon",
        "allow_other,default_permissions=no", "nonsense", "nonsense=1", "readahead=big"}) {
    CAPTURE(bad);
    const std::string message = error_of(bad);
    CHECK(message != "accepted");
    const std::string option(bad);
    CHECK(message.find(option.substr(0, option.find_first_of("=,"))) != std::string::npos);
  }
  CHECK_FALSE(parse("Port=22", kUser, "local:/vms").has_value());
}

TEST_CASE("a read-only mount refuses the options of writing, by name") {
  for (const char* option :
       {"write=through", "write=back", "names=back", "names=through", "durability=remote", "lease=no",
        "lease_wait=3", "log_size=1G", "log_wait=3", "write_published"}) {
    CAPTURE(option);
    CHECK(error_of(option) == "accepted");
    const std::string message = error_of(std::string("ro,") + option);
    CHECK(message.find("options 'ro' and '" +
                       std::string(option).substr(0, std::string(option).find('=')) + "'") == 0);
    CHECK(error_of(std::string(option) + ",ro").find("contradict") != std::string::npos);
    CHECK(error_of(std::string("ro,") + option + ",rw") == "accepted");
  }
  CHECK(error_of("ro,consistency=session,writable_opens") == "accepted");
}

TEST_CASE("names=back contradicts what makes the server do each change at once") {
  for (const char* other : {"write=through", "durability=remote", "lease=no"}) {
    CAPTURE(other);
    CHECK(error_of(std::string("names=through,") + other) == "accepted");
    CHECK(error_of(std::string("names=back,") + other).find(other) != std::string::npos);
    CHECK(error_of(std::string(other) + ",names=back").find("contradict") != std::string::npos);
  }
}

TEST_CASE("consistency says how long names are believed, and contradicts attr_timeout where it does") {
  CHECK(parse("consistency=poll=7")->attr_timeout == std::chrono::seconds(7));
  CHECK(parse("consistency=session")->attr_timeout > std::chrono::hours(24));
  CHECK(parse("consistency=close-to-open")->attr_timeout == std::chrono::seconds(1));
  CHECK(parse("attr_timeout=5,consistency=close-to-open")->attr_timeout == std::chrono::seconds(5));
  CHECK(parse("consistency=session,consistency=close-to-open")->attr_timeout ==
        std::chrono::seconds(1));
  for (const char* both : {"consistency=session,attr_timeout=5", "attr_timeout=5,consistency=poll=7"}) {
    CAPTURE(both);
    CHECK(error_of(both).find("'consistency=' and 'attr_timeout=' contradict") != std::string::npos);
  }
  CHECK(error_of("consistency=poll=often").find("from 0 to 1000000") != std::string::npos);
  CHECK(error_of("lease=no,lease_wait=3").find("'lease=no' and 'lease_wait='") !=
        std::string::npos);
}

TEST_CASE("the limits of numbers are inside") {
  CHECK(parse("connections=1").has_value());
  CHECK(parse("connections=16").has_value());
  CHECK(parse("cache_min_free=0").has_value());
  CHECK(parse("cache_min_free=99").has_value());
  CHECK(parse("umask=0777").has_value());
  CHECK(parse("uid=4294967294").has_value());
  CHECK_FALSE(parse("uid=4294967295").has_value());
}

TEST_CASE("allow_other implies default_permissions, and is root's default") {
  CHECK_FALSE(parse("")->allow_other);
  CHECK_FALSE(parse("")->default_permissions);
  CHECK(parse("allow_other")->default_permissions);
  CHECK(parse("", kRoot)->allow_other);
  CHECK(parse("", kRoot)->default_permissions);
  CHECK_FALSE(parse("allow_other=no", kRoot)->allow_other);
}

TEST_CASE("files belong to the mounting user unless told otherwise") {
  CHECK(parse("")->uid == 1000);
  CHECK(parse("uid=5,gid=6")->uid == 5);
  CHECK(parse("uid=5,gid=6")->gid == 6);
}

TEST_CASE("each export has a cache directory of its own") {
  ::setenv("XDG_STATE_HOME", "/state", 1);
  const auto directory = [](const std::string& source, const Mounter& who) {
    return default_cache_directory(parse("", who, source).value(), who).value();
  };
  CHECK(directory("h:/a", kUser).starts_with("/state/slipway/h_a-"));
  CHECK(directory("h:/a", kRoot).starts_with("/var/lib/slipway/"));
  CHECK(directory("h:/a", kUser) != directory("h:/b", kUser));
  CHECK(directory("h:/a/b", kUser) != directory("h:/a_b", kUser));
  CHECK(directory("u@h:/a", kUser) != directory("v@h:/a", kUser));
}
