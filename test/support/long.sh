#!/usr/bin/env bash
# The part of `./check --long` that is not a meson test: fuzzers, clang-tidy, benchmarks.
set -uo pipefail
cd "$(dirname "$0")/../.."
. test/support/setup.sh
bad=0

say "fuzzers, 60 s each"
[ -f build/fuzz/build.ninja ] ||
  CC=clang CXX=clang++ meson setup build/fuzz --buildtype=debugoptimized >build/fuzz.log || exit 1
ninja -C build/fuzz fuzzers >build/fuzz.log || { tail -n 20 build/fuzz.log; exit 1; }
for fuzzer in build/fuzz/test/fuzz/fuzz_*; do
  [ -x "$fuzzer" ] && [ -f "$fuzzer" ] || continue
  corpus=$(mktemp -d)
  cp test/golden/*.bin "$corpus/" 2>/dev/null
  "$fuzzer" -max_total_time=60 -max_len=65536 -print_final_stats=0 "$corpus" >build/fuzz.log 2>&1 ||
    { tail -n 20 build/fuzz.log; bad=1; }
  rm -rf "$corpus"
done

say "clang-tidy"
git ls-files 'common/*.cc' 'client/*.cc' 'server/*.cc' |
  xargs -P 2 -n 4 clang-tidy --quiet -p build/fuzz 2>/dev/null | tee build/clang-tidy.log |
  grep -E 'error:' && bad=1

say "benchmarks"
env SLIPWAY="$PWD/build/client/slipway" SLIPWAYD="$PWD/build/server/slipwayd" \
  LINK_EMULATOR="$PWD/build/test/bench/link_emulator" python3 test/bench/bench.py || bad=1

exit $bad
