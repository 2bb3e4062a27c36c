#include "manifest/profile.h"

#include "base/unique_fd.h"
#include "support/catch.h"
#include "wire/codec.h"
#include "wire/manifest_messages.h"

#include <algorithm>
#include <map>
#include <random>
#include <set>

namespace slipway {

namespace {

constexpr std::uint64_t kSize = 1000 * std::uint64_t{kUnitSize} + 5;  ///< 1001 units

Profile profile_of(std::vector<UnitRun> runs, std::uint64_t size = kSize) {
  return {size, 1, std::move(runs)};
}

/// Units in their order.
std::vector<std::uint64_t> units_of(const Profile& profile) {
  std::vector<std::uint64_t> units;
  for (const UnitRun& run : profile.runs) {
    for (std::uint64_t i = 0; i < run.count; ++i)
      units.push_back(run.first + i);
  }
  return units;
}

bool is_refused(ByteView bytes) {
  const Result<Profile> decoded = decode_profile(bytes);
  return !decoded.has_value() && decoded.error().code == ErrorCode::kInvalid;
}

/// A profile as a hostile writer would make it.
Bytes written(std::uint16_t format, std::uint64_t size, std::uint32_t starts,
              const std::vector<UnitRun>& runs) {
  Bytes bytes;
  WireWriter out(bytes);
  out.u16(format);
  out.u64(size);
  out.u32(starts);
  out.u32(static_cast<std::uint32_t>(runs.size()));
  for (const UnitRun& run : runs) {
    out.u32(static_cast<std::uint32_t>(run.first));
    out.u16(static_cast<std::uint16_t>(run.count));
  }
  return bytes;
}

Profile random_profile(std::mt19937_64& random, std::uint64_t units) {
  std::set<std::uint64_t> used;
  Profile profile = profile_of({}, units * kUnitSize);
  for (std::size_t i = random() % 40; i > 0; --i) {
    UnitRun run{random() % units, 0};
    const std::uint64_t wanted = 1 + random() % 9;
    while (run.count < wanted && run.first + run.count < units &&
           used.insert(run.first + run.count).second)
      ++run.count;
    if (run.count > 0)
      profile.runs.push_back(run);
  }
  return profile;
}

/// Median of each unit's places, for units in more than half of the profiles.
std::map<std::uint64_t, std::uint64_t> model_merge(const std::vector<Profile>& starts) {
  std::map<std::uint64_t, std::vector<std::uint64_t>> places;
  for (const Profile& start : starts) {
    std::uint64_t place = 0;
    for (const std::uint64_t unit : units_of(start))
      places[unit].push_back(place++);
  }
  std::map<std::uint64_t, std::uint64_t> medians;
  for (auto& [unit, seen] : places) {
    if (2 * seen.size() <= starts.size())
      continue;
    std::sort(seen.begin(), seen.end());
    medians[unit] = seen[(seen.size() - 1) / 2];
  }
  return medians;
}

}  // namespace

TEST_CASE("a profile comes back as it was") {
  const Profile profile{kSize, 3, {{990, 11}, {0, 1}, {5, 200}}};
  const Bytes bytes = encode_profile(profile);
  const Result<Profile> decoded = decode_profile(bytes);
  REQUIRE(decoded.has_value());
  CHECK(*decoded == profile);
  CHECK(decode_profile(encode_profile(profile_of({}, 0)))->runs.empty());
}

TEST_CASE("a profile has the bytes that its golden file holds") {
  const Profile profile{320 * std::uint64_t{1024 * 1024} + 7, 3, {{20480, 1}, {0, 4}, {17, 300}}};
  const std::string path = std::string(SLIPWAY_PROFILE_GOLDEN) + "/profile.bin";
  const Bytes bytes = encode_profile(profile);
  if (std::getenv("SLIPWAY_ACCEPT_GOLDEN") != nullptr)
    REQUIRE(replace_file(path, as_text(bytes), 0644).has_value());
  const Result<std::string> golden = read_small_file(path, kProfileMax);
  REQUIRE(golden.has_value());
  CHECK(*golden == as_text(bytes));
  CHECK(decode_profile(as_bytes(*golden)) == profile);
}

TEST_CASE("runs that are too long for one record are written as several") {
  const Profile profile = profile_of({{10, 150'000}}, 200'000 * std::uint64_t{kUnitSize});
  const Result<Profile> decoded = decode_profile(encode_profile(profile));
  REQUIRE(decoded.has_value());
  CHECK(decoded->runs == std::vector<UnitRun>{{10, 65'535}, {65'545, 65'535}, {131'080, 18'930}});
}

TEST_CASE("later runs are left out of a profile that is too large, and it stays within its limit") {
  Profile profile = profile_of({}, std::uint64_t{1} << 45U);
  for (std::uint64_t i = 0; i < kProfileRunsMax + 1; ++i)
    profile.runs.push_back({3 * (kProfileRunsMax - i), 2});
  const Bytes bytes = encode_profile(profile);
  CHECK(bytes.size() <= kProfileMax);
  profile.runs.pop_back();
  CHECK(decode_profile(bytes) == profile);

  profile.runs = {{0, kProfileUnitsMax - 1}, {kProfileUnitsMax, 2}};
  const Result<Profile> cut = decode_profile(encode_profile(profile));
  REQUIRE(cut.has_value());
  CHECK(units_of(*cut).size() == kProfileUnitsMax);
  CHECK(cut->runs.back() == UnitRun{kProfileUnitsMax, 1});

  profile.runs = {{(std::uint64_t{1} << 32U) - 2, 3}, {std::uint64_t{1} << 32U, 1}, {4, 1}};
  profile.image_size = std::uint64_t{1} << 47U;
  const Result<Profile> far = decode_profile(encode_profile(profile));
  REQUIRE(far.has_value());
  CHECK(far->runs == std::vector<UnitRun>{{(std::uint64_t{1} << 32U) - 2, 2}, {4, 1}});
}

TEST_CASE("what is not exactly a profile is refused") {
  const Bytes good = encode_profile(Profile{kSize, 3, {{990, 11}, {0, 1}, {5, 200}}});
  for (std::size_t length = 0; length < good.size(); ++length)
    CHECK(is_refused(ByteView(good).first(length)));
  Bytes longer = good;
  longer.push_back(std::byte{0});
  CHECK(is_refused(longer));
  CHECK(!is_refused(written(1, kSize, 1, {{1000, 1}})));
  CHECK(is_refused(written(2, kSize, 1, {{1000, 1}})));
  CHECK(is_refused(written(1, kSize, 0, {{1000, 1}})));
  CHECK(is_refused(written(1, kFileSizeMax + 1, 1, {})));
  CHECK(!is_refused(written(1, kFileSizeMax, 1, {})));
  CHECK(is_refused(written(1, kSize, 1, {{1001, 1}})));
  CHECK(is_refused(written(1, kSize, 1, {{1000, 2}})));
  CHECK(is_refused(written(1, kSize, 1, {{3, 0}})));
  CHECK(is_refused(written(1, 0, 1, {{0, 1}})));
  CHECK(is_refused(written(1, kSize, 1, {{3, 4}, {20, 1}, {6, 1}})));
  CHECK(is_refused(written(1, kSize, 1, {{3, 1}, {3, 1}})));
  CHECK(!is_refused(written(1, kSize, 1, {{3, 4}, {7, 1}, {2, 1}})));
  // A run may end at the last unit that can be said, in however large a file.
  CHECK(!is_refused(written(1, kFileSizeMax, 1, {{0xffff'fffe, 2}})));
  CHECK(is_refused(written(1, kFileSizeMax, 1, {{0xffff'fffe, 3}})));
}

TEST_CASE("the limits of a profile hold, and not one less") {
  std::vector<UnitRun> runs;
  for (std::uint64_t i = 0; i < kProfileRunsMax; ++i)
    runs.push_back({2 * i, 1});
  const std::uint64_t size = std::uint64_t{1} << 44U;
  CHECK(!is_refused(written(1, size, 1, runs)));
  runs.push_back({2 * kProfileRunsMax, 1});
  CHECK(is_refused(written(1, size, 1, runs)));

  runs.clear();
  for (std::uint64_t i = 0; i < 8; ++i)
    runs.push_back({i * 32'768, 32'768});
  CHECK(!is_refused(written(1, size, 1, runs)));
  runs.push_back({8 * 32'768, 1});
  CHECK(is_refused(written(1, size, 1, runs)));
}

TEST_CASE("merging one start gives that start") {
  const Profile start = profile_of({{500, 3}, {0, 10}, {100, 1}});
  CHECK(merge_profiles({&start, 1}) == start);
}

TEST_CASE("a unit is kept when more than half of the starts have it") {
  const std::vector<Profile> three = {profile_of({{0, 10}, {50, 1}}), profile_of({{5, 10}}),
                                      profile_of({{100, 1}, {8, 1}})};
  const Profile merged = merge_profiles(three);
  CHECK(merged.starts == 3);
  CHECK(merged.runs == std::vector<UnitRun>{{5, 5}});
  // Of two, both.
  const std::vector<Profile> two = {three[0], three[1]};
  CHECK(units_of(merge_profiles(two)) == std::vector<std::uint64_t>{5, 6, 7, 8, 9});
}

TEST_CASE("starts of an image of another size are left out and don't count") {
  const std::vector<Profile> starts = {profile_of({{7, 2}}), profile_of({{0, 1}}, 5 * kUnitSize),
                                       profile_of({{8, 1}, {1, 1}}, kSize - 1)};
  const Profile merged = merge_profiles(starts);
  CHECK(merged == Profile{kSize, 1, {{7, 2}}});
}

TEST_CASE("an order that most starts share is kept, whatever one of them does") {
  const Profile usual = profile_of({{100, 4}, {7, 2}, {900, 8}, {50, 1}});
  const Profile odd = profile_of({{50, 1}, {900, 8}, {7, 2}, {100, 4}});
  for (const std::vector<Profile>& starts :
       {std::vector{usual, usual, odd}, std::vector{odd, usual, usual}})
    CHECK(merge_profiles(starts).runs == usual.runs);
}

TEST_CASE(
    "merging gives the same units as a plain model, none twice, runs in order of the medians") {
  std::mt19937_64 random(11);
  for (int round = 0; round < 300; ++round) {
    const std::uint64_t units = 20 + random() % 200;
    std::vector<Profile> starts;
    for (std::size_t i = 1 + random() % 8; i > 0; --i)
      starts.push_back(random_profile(random, units));
    const Profile merged = merge_profiles(starts);
    CHECK(merged.starts == starts.size());
    const auto model = model_merge(starts);
    const std::vector<std::uint64_t> got = units_of(merged);
    REQUIRE(got.size() == model.size());
    CHECK(std::set(got.begin(), got.end()).size() == got.size());
    CHECK(std::all_of(got.begin(), got.end(), [&](auto unit) { return model.count(unit) == 1; }));
    // A run is joined from neighbours, each of which stands where its first unit belongs.
    CHECK(std::is_sorted(
        merged.runs.begin(), merged.runs.end(),
        [&](const UnitRun& a, const UnitRun& b) { return model.at(a.first) < model.at(b.first); }));
    const Result<Profile> again = decode_profile(encode_profile(merged));
    REQUIRE(again.has_value());
    CHECK(*again == merged);
  }
}

TEST_CASE("the merge of the largest profiles is within the limits of one") {
  std::vector<Profile> starts;
  for (std::uint64_t start = 0; start < 8; ++start) {
    Profile profile = profile_of({}, std::uint64_t{1} << 44U);
    for (std::uint64_t i = 0; i < kProfileRunsMax; ++i)
      profile.runs.push_back({40 * ((i * 4099) % kProfileRunsMax) + start, 32});
    starts.push_back(std::move(profile));
  }
  const Profile merged = merge_profiles(starts);
  CHECK(merged.runs.size() <= kProfileRunsMax);
  CHECK(units_of(merged).size() <= kProfileUnitsMax);
  CHECK(decode_profile(encode_profile(merged)) == merged);
}

}  // namespace slipway
