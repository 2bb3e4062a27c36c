#pragma once

#include <cstddef>
#include <new>
#include <type_traits>
#include <utility>

namespace slipway {

// Internal to common/secure: where keys live.

/// A zeroed page of memory that is locked (best effort: RLIMIT_MEMLOCK may be small), left out of
/// core dumps, and zero in a child after fork. Throws std::bad_alloc. Any thread.
std::byte* map_secret_page();

/// Wipes the page and gives it back. Null is allowed.
void unmap_secret_page(std::byte* page) noexcept;

inline constexpr std::size_t kSecretPageSize = 4096;

/// One T in a secret page of its own, zero at first. T holds only arrays of bytes and cipher
/// states; it is wiped as bytes. Move only; a moved-from box holds nothing. Not thread-safe.
template <class T>
class SecretBox {
 public:
  SecretBox() : value_(new (map_secret_page()) T) {
    static_assert(std::is_trivially_copyable_v<T> && std::is_trivially_destructible_v<T>);
    static_assert(sizeof(T) <= kSecretPageSize);
  }

  SecretBox(SecretBox&& other) noexcept : value_(std::exchange(other.value_, nullptr)) {}

  SecretBox& operator=(SecretBox&& other) noexcept {
    std::swap(value_, other.value_);
    return *this;
  }

  SecretBox(const SecretBox&) = delete;
  SecretBox& operator=(const SecretBox&) = delete;

  ~SecretBox() { unmap_secret_page(reinterpret_cast<std::byte*>(value_)); }

  T* operator->() noexcept { return value_; }

  const T* operator->() const noexcept { return value_; }

  T& operator*() noexcept { return *value_; }

 private:
  T* value_;
};

}  // namespace slipway
