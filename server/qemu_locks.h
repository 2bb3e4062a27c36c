#pragma once

namespace slipway {

/// Keeps a QEMU of this machine from opening an image for writing that a client has open for writing: takes
/// the locks that a QEMU which writes would hold and that share nothing with another writer (QEMU's
/// docs/system/qemu-block-drivers and block/file-posix.c: single bytes at 100 + n for permission n that is in
/// use, at 200 + n for one that is not shared). They are open-file-description locks, go with the last
/// descriptor of this open, and conflict neither with each other nor with what a client does. Best effort:
/// where the file system has no locks nobody is kept out.
///
/// `fd`: open for reading and writing.
void hold_qemu_locks(int fd) noexcept;

}  // namespace slipway
