#pragma once

#include <array>
#include <cstddef>
#include <memory>

#include "base/bytes.h"
#include "wire/setup.h"

namespace slipway {

/// Call once, first thing in main, before any secret exists: starts libsodium, turns core dumps and
/// ptrace by other processes of the user off.
void init_secure_process();

/// 32 secret bytes in memory that is locked (best effort: RLIMIT_MEMLOCK), not dumped, wiped at the
/// end and not inherited by fork. Move only; not printable.
class Secret {
 public:
  static constexpr std::size_t kSize = 32;

  Secret();  ///< all zero
  explicit Secret(ByteView bytes);  ///< REQUIRES: bytes.size() == kSize
  ~Secret();
  Secret(Secret&&) noexcept;
  Secret& operator=(Secret&&) noexcept;
  Secret(const Secret&) = delete;
  Secret& operator=(const Secret&) = delete;

  static Secret random();
  Secret clone() const;

  ByteView view() const noexcept;
  MutableBytes mutable_view() noexcept;

 private:
  std::byte* page_ = nullptr;
};

void fill_random(MutableBytes to);
bool aes_in_hardware() noexcept;
void wipe(MutableBytes bytes) noexcept;

/// 16 bytes of BLAKE2b over the parts, each preceded by its 64-bit length: for identifiers.
std::array<std::byte, 16> hash16(std::initializer_list<ByteView> parts);

/// root = BLAKE2b-512(key = client secret || server secret, the exact bytes of both set-up messages,
/// each preceded by its 32-bit length) truncated to 32 bytes.
Secret derive_root(const SecretBytes& client_secret, const SecretBytes& server_secret,
                   ByteView client_setup, ByteView server_setup);

/// What set-up hands to the data phase.
struct SessionTicket {
  SessionId session_id{};
  CipherSuite suite = CipherSuite::kChaCha20Poly1305;
  Secret root;
};

}  // namespace slipway
