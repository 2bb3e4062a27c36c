#include "facts_support.h"

using namespace slipway;

namespace {

using Names = std::vector<std::string>;

}  // namespace

TEST_CASE("a vmx names the disks, images, nvram and state that its machine uses") {
  const ImageFacts facts = facts_of("vm.vmx", std::string(kVmx));
  CHECK(facts.image_class == ImageClass::kConfig);
  CHECK(facts.plan == TransferPlan::kWhole);
  CHECK(facts.format == "vmx");
  CHECK(facts.complaint.empty());
  Names names = facts.names;
  std::sort(names.begin(), names.end());
  CHECK(names ==
        Names{"/images/a\"b.vmdk", "disk one.vmdk", "install.iso", "vm-1234.vmss", "vm.nvram"});
}

TEST_CASE("lines of a vmx that make no sense are passed over") {
  const ImageFacts facts =
      facts_of("VM.VMX",
               "=\n= \"a\"\nscsi0:0.fileName\nscsi0:0.fileName = \nide0:0.fileName = \"a|b|\n"
               "nvram=b.nvram\r\nscsi.fileName = \"\"\n\"\n.fileName = \"c\"");
  CHECK(facts.names == Names{"b.nvram", "a|b|"});
  CHECK(facts.complaint.empty());
}

TEST_CASE("a vmx can hide a newline or NUL in a name, but not pass it on") {
  const ImageFacts facts = facts_of(
      "vm.vmx", "nvram = \"a|0Ab\"\nscsi0:0.fileName = \"a|00b\"\nide0:0.fileName = \"c\"");
  CHECK(facts.names == Names{"c"});
  CHECK(!facts.complaint.empty());
}

TEST_CASE("no more files are named than allowed, and none twice") {
  std::string text;
  for (std::size_t i = 0; i <= kNamedFilesMax; ++i)
    for (const char* drive : {"scsi", "ide"})
      text += drive + std::to_string(i) + ".fileName = \"" + std::to_string(i) + ".vmdk\"\n";
  const ImageFacts facts = facts_of("vm.vmx", text);
  CHECK(facts.names.size() == kNamedFilesMax);
  CHECK(!facts.complaint.empty());
}

TEST_CASE("a name of 4095 bytes is passed on, a longer one is not") {
  CHECK(facts_of("vm.vmx", "nvram = " + std::string(4095, 'a')).names.size() == 1);
  const ImageFacts facts = facts_of("vm.vmx", "nvram = " + std::string(4096, 'a'));
  CHECK(facts.names.empty());
  CHECK(!facts.complaint.empty());
}

TEST_CASE("a vmx that is binary or longer than any is complained of") {
  const ImageFacts binary = facts_of("vm.vmx", std::string("nvram = a\0", 10));
  CHECK(binary.image_class == ImageClass::kConfig);
  CHECK(binary.names.empty());
  CHECK(!binary.complaint.empty());

  const ImageFacts longest = facts_of("vm.vmx", "nvram = a" + std::string(kVmTextMax - 9, '\n'));
  CHECK(longest.names == Names{"a"});
  const ImageFacts longer = facts_of("vm.vmx", "nvram = a" + std::string(kVmTextMax - 8, '\n'));
  CHECK(longer.names.empty());
  CHECK(!longer.complaint.empty());
  CHECK(longer.plan == TransferPlan::kDemand);
}

TEST_CASE("a vmsd names the states and disks of its snapshots") {
  const ImageFacts facts =
      facts_of("vm.vmsd",
               "snapshot0.uid = \"1\"\nsnapshot0.filename = \"vm-Snapshot1.vmsn\"\n"
               "snapshot0.disk0.fileName = \"disk.vmdk\"\nother.filename = \"x\"\n");
  CHECK(facts.format == "vmsd");
  CHECK(facts.plan == TransferPlan::kWhole);
  CHECK(facts.names == Names{"vm-Snapshot1.vmsn", "disk.vmdk"});
}

TEST_CASE("a vmdk's descriptor is small text that names its extents") {
  const ImageFacts facts = facts_of("disk.vmdk", std::string(kDescriptor));
  CHECK(facts.image_class == ImageClass::kConfig);
  CHECK(facts.plan == TransferPlan::kWhole);
  CHECK(facts.format == "vmdk-descriptor");
  CHECK(facts.complaint.empty());
  CHECK(facts.names ==
        Names{"disk s001.vmdk", "disk-f002.vmdk", "disk-flat.vmdk", "disk-ctk.vmdk"});
}

TEST_CASE("a descriptor names its parent, wherever that is said to be") {
  const auto names_with = [](const std::string& line) {
    return facts_of("d.vmdk", "# Disk DescriptorFile\nversion=3\n" + line).names;
  };
  CHECK(names_with("parentFileNameHint=\"/vmfs/volumes/a/b.vmdk\"") ==
        Names{"/vmfs/volumes/a/b.vmdk"});
  CHECK(names_with("ParentFileNameHint = \"..\\a\\b.vmdk\"") == Names{"..\\a\\b.vmdk"});
  CHECK(names_with("parentFileNameHint=\"\"").empty());
}

TEST_CASE("a descriptor with a broken extent is published as a disk, without names") {
  const std::string extent = GENERATE("RW", "RW ", "RW x FLAT \"a\"", "RW 1", "RW 1 FLAT \"a",
                                      "RW 1 FLAT a", "RW 1 FLAT \"");
  CAPTURE(extent);
  const ImageFacts facts = facts_of(
      "disk.vmdk", "# Disk DescriptorFile\nversion=1\nRW 1 FLAT \"first\"\n" + extent + "\n");
  if (extent == "RW" || extent == "RW ") {  // not an extent at all
    CHECK(facts.names == Names{"first"});
  } else {
    CHECK(facts.image_class == ImageClass::kDisk);
    CHECK(facts.names.empty());
    CHECK(!facts.complaint.empty());
  }
}

TEST_CASE("a descriptor may be padded with NULs, but not be longer than any") {
  std::string text(kDescriptor);
  text.resize(20 * 512);
  CHECK(facts_of("disk.vmdk", text).names.size() == 4);
  text.resize(kVmTextMax + 1);
  const ImageFacts facts = facts_of("disk.vmdk", text);
  CHECK(facts.image_class == ImageClass::kDisk);
  CHECK(facts.names.empty());
  CHECK(!facts.complaint.empty());
}
