#include "secure/secret.h"

#include "secure/secret_memory.h"

#include <sodium.h>

#include <algorithm>
#include <cassert>
#include <cstdint>
#include <cstdlib>
#include <new>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <utility>

namespace slipway {
namespace {

template <class Integer>
std::array<std::byte, sizeof(Integer)> little_endian(Integer value) noexcept {
  std::array<std::byte, sizeof(Integer)> bytes{};
  for (std::size_t i = 0; i < bytes.size(); ++i)
    bytes[i] = static_cast<std::byte>(value >> (8 * i));
  return bytes;
}

void update(crypto_generichash_state& state, ByteView bytes) noexcept {
  if (!bytes.empty())
    crypto_generichash_update(&state, as_uchar(bytes), bytes.size());
}

}  // namespace

void init_secure_process() {
  if (sodium_init() < 0)
    std::abort();  // without its random source nothing here is safe
  ::prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
  const rlimit none{0, 0};
  ::setrlimit(RLIMIT_CORE, &none);
}

std::byte* map_secret_page() {
  void* page =
      ::mmap(nullptr, kSecretPageSize, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (page == MAP_FAILED)
    throw std::bad_alloc();
  // Each may fail (an ordinary user's RLIMIT_MEMLOCK, an old kernel) without making the rest
  // pointless: a key that could reach swap is still better than no connection.
  ::mlock(page, kSecretPageSize);
  ::madvise(page, kSecretPageSize, MADV_DONTDUMP);
  ::madvise(page, kSecretPageSize, MADV_WIPEONFORK);
  return static_cast<std::byte*>(page);
}

void unmap_secret_page(std::byte* page) noexcept {
  if (page == nullptr)
    return;
  sodium_memzero(page, kSecretPageSize);
  ::munmap(page, kSecretPageSize);
}

Secret::Secret() : page_(map_secret_page()) {}

Secret::Secret(ByteView bytes) : Secret() {
  assert(bytes.size() == kSize);
  std::copy(bytes.begin(), bytes.end(), page_);
}

Secret::~Secret() {
  unmap_secret_page(page_);
}

Secret::Secret(Secret&& other) noexcept : page_(std::exchange(other.page_, nullptr)) {}

Secret& Secret::operator=(Secret&& other) noexcept {
  if (this != &other) {
    unmap_secret_page(page_);
    page_ = std::exchange(other.page_, nullptr);
  }
  return *this;
}

Secret Secret::random() {
  Secret secret;
  fill_random(secret.mutable_view());
  return secret;
}

Secret Secret::clone() const {
  return Secret(view());
}

ByteView Secret::view() const noexcept {
  assert(page_ != nullptr);
  return {page_, kSize};
}

MutableBytes Secret::mutable_view() noexcept {
  assert(page_ != nullptr);
  return {page_, kSize};
}

void fill_random(MutableBytes to) {
  randombytes_buf(to.data(), to.size());
}

bool aes_in_hardware() noexcept {
  return crypto_aead_aes256gcm_is_available() == 1;
}

void wipe(MutableBytes bytes) noexcept {
  sodium_memzero(bytes.data(), bytes.size());
}

std::array<std::byte, 16> hash16(std::initializer_list<ByteView> parts) {
  std::array<std::byte, 16> hash;
  crypto_generichash_state state;
  crypto_generichash_init(&state, nullptr, 0, hash.size());
  for (const ByteView part : parts) {
    update(state, little_endian(std::uint64_t{part.size()}));
    update(state, part);
  }
  crypto_generichash_final(&state, as_uchar(MutableBytes(hash)), hash.size());
  return hash;
}

Secret derive_root(const SecretBytes& client_secret, const SecretBytes& server_secret,
                   ByteView client_setup, ByteView server_setup) {
  static_assert(2 * sizeof(SecretBytes) == crypto_generichash_KEYBYTES_MAX);

  struct Scratch {
    alignas(64) crypto_generichash_state state;
    std::array<std::byte, 64> key;
    std::array<std::byte, 64> hash;
  };

  SecretBox<Scratch> scratch;
  std::copy(client_secret.begin(), client_secret.end(), scratch->key.begin());
  std::copy(server_secret.begin(), server_secret.end(), scratch->key.begin() + 32);

  crypto_generichash_init(&scratch->state, as_uchar(ByteView(scratch->key)), scratch->key.size(),
                          scratch->hash.size());
  for (const ByteView message : {client_setup, server_setup}) {
    update(scratch->state, little_endian(static_cast<std::uint32_t>(message.size())));
    update(scratch->state, message);
  }
  crypto_generichash_final(&scratch->state, as_uchar(MutableBytes(scratch->hash)),
                           scratch->hash.size());
  return Secret(ByteView(scratch->hash).first(Secret::kSize));
}

}  // namespace slipway
