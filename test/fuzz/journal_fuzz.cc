#include "fuzz_target.h"
#include "server/checkpoint_format.h"
#include "server/checkpoint_journal.h"

#include <algorithm>
#include <cassert>
#include <sys/mman.h>

using namespace slipway;

namespace {

bool is_equal(ByteView a, ByteView b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end());
}

void read_journal(ByteView input) {
  if (input.size() < kJournalHeadSize)
    return;
  const Result<JournalHead> head = decode_journal_head(input.first(kJournalHeadSize));
  if (!head.has_value())
    return;
  UniqueFd fd(::memfd_create("journal", MFD_CLOEXEC));
  if (!write_full(fd.get(), input).has_value())
    return;
  Result<JournalFile> journal = JournalFile::read(std::move(fd), *head);
  if (!journal.has_value())
    return;
  std::uint32_t parts = 0;
  while (journal->has(parts))
    ++parts;
  std::uint32_t seen = 0;
  const Status done = journal->for_each_part(parts, [&](const StageRequest& part) -> Status {
    assert(part.part == seen);
    ++seen;
    return {};
  });
  // A part whose record is intact may still be no part; then it is out of the index.
  assert(done.has_value() == (seen == parts));
  assert(journal->make_appendable().has_value());
  assert(!journal->plan() && !journal->has_torn_end());
}

}  // namespace

/// What the disk may have made of a journal, and what its owner may have put there.
int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const ByteView input = fuzz_input(data, size);
  read_journal(input);
  if (const Result<CommitPlan> plan = decode_commit_plan(input)) {
    Bytes again;
    encode(again, *plan);
    assert(is_equal(again, input));
  }
  if (const Result<AppliedRecord> applied = decode_applied(input))
    assert(is_equal(encode_applied(*applied), input));
  if (const Result<ByteView> content = decode_small_commit(input))
    read_journal(*content);
  if (const Result<AppliedRecord> slot = decode_applied_slot(input); slot && slot->checkpoint != 0)
    assert(decode_applied(encode_applied(*slot)).has_value());
  return 0;
}
