#include "facts_support.h"

using namespace slipway;

namespace {

using Names = std::vector<std::string>;

std::string magic_of_firecracker(std::uint64_t magic) {
  return Content(256).little(0, magic).str();
}

}  // namespace

TEST_CASE("plain memory is known by its name and travels in bulk") {
  const std::string name = GENERATE("vm.vmem", "VM.VMEM", "guest.mem", "memory", "memory-ranges",
                                    "memory_0.bin", "mem_file", "memfile");
  CAPTURE(name);
  const ImageFacts facts = facts_of(name, std::string(8192, '\x01'));
  CHECK(facts.image_class == ImageClass::kMemory);
  CHECK(facts.plan == TransferPlan::kBulk);
  CHECK(facts.complaint.empty());
}

TEST_CASE("a file whose name starts like that of memory is not memory for that") {
  CHECK(facts_of("memory.txt", std::string(5000, 'a')).image_class == ImageClass::kOther);
  CHECK(facts_of("memory.json", std::string(4096, 'a')).image_class == ImageClass::kConfig);
  CHECK(facts_of("memory.qcow2", qcow2_sample().str()).image_class == ImageClass::kDisk);
  CHECK(facts_of("memory", "").image_class == ImageClass::kOther);
}

TEST_CASE("VMware's suspended and snapshot states travel in bulk and name their memory") {
  const std::uint32_t magic =
      GENERATE(0xbed0bed0U, 0xbed2bed2U, 0xbed3bed3U, 0xbad1bad1U, 0xbad2bad2U);
  const std::string state = Content(4096).little(0, magic).str();
  const ImageFacts suspended = facts_of("vm-12.vmss", state);
  CHECK(suspended.image_class == ImageClass::kMemory);
  CHECK(suspended.plan == TransferPlan::kBulk);
  CHECK(suspended.format == "vmss");
  CHECK(suspended.names == Names{"vm-12.vmem"});
  CHECK(facts_of("vm-Snapshot1.vmsn", state).format == "vmsn");
  CHECK(facts_of("vm-Snapshot1.vmsn", state).names == Names{"vm-Snapshot1.vmem"});
  CHECK(facts_of("saved", state).image_class == ImageClass::kMemory);
  CHECK(facts_of("saved", state).names.empty());
}

TEST_CASE("a vmss without its mark is memory by name, with a complaint") {
  const ImageFacts facts = facts_of("vm.vmss", std::string(4096, 'x'));
  CHECK(facts.image_class == ImageClass::kMemory);
  CHECK(!facts.complaint.empty());
  CHECK(facts.names.empty());
  CHECK(facts_of("vm.vmss", "").complaint.empty());
}

TEST_CASE("libvirt's save files are known by their mark") {
  const ImageFacts facts = facts_of("vm.save", libvirt_sample().str());
  CHECK(facts.image_class == ImageClass::kMemory);
  CHECK(facts.plan == TransferPlan::kBulk);
  CHECK(facts.format == "libvirt-save");
  CHECK(facts.metadata == std::vector<ByteRange>{{0, 105}});
  CHECK(facts_of("vm.save", libvirt_sample("LibvirtQemudPart").str()).format ==
        "libvirt-save-partial");
}

TEST_CASE("a save file of a host of the other byte order is understood") {
  Content content = libvirt_sample();
  content.big<std::uint32_t>(16, 2).big<std::uint32_t>(20, 13);
  CHECK(facts_of("vm.save", content.str()).metadata == std::vector<ByteRange>{{0, 105}});
}

TEST_CASE("a save file with more XML than file is complained of") {
  Content content = libvirt_sample();
  content.little<std::uint32_t>(20, GENERATE(22U, 0xffffffffU));
  const ImageFacts facts = facts_of("vm.save", content.str());
  CHECK(!facts.complaint.empty());
  CHECK(facts.image_class == ImageClass::kOther);
  CHECK(facts.metadata.empty());
}

TEST_CASE("QEMU's migration streams are known by mark and version") {
  const auto with_version = [](std::uint32_t version) {
    return facts_of("state", Content(64).text(0, "QEVM").big(4, version).str());
  };
  CHECK(with_version(3).format == "qemu-migration");
  CHECK(with_version(3).plan == TransferPlan::kBulk);
  CHECK(!with_version(0x03000000).complaint.empty());
  CHECK(!facts_of("state", "QEVM").complaint.empty());
}

TEST_CASE("Firecracker's state names the memory that stands beside it") {
  const ImageFacts facts = facts_of("snapshot_file", magic_of_firecracker(0x0710198486640000));
  CHECK(facts.format == "firecracker-state");
  CHECK(facts.image_class == ImageClass::kMemory);
  CHECK(facts.names == Names{"mem_file"});
  CHECK(facts_of("vm.vmstate", magic_of_firecracker(0x07101984aaaa0001)).names == Names{"vm.mem"});
}

TEST_CASE("raw disks are known by name, or by what a disk starts with") {
  const ImageFacts iso = facts_of("cd.iso", std::string(100, 'x'));
  CHECK(iso.image_class == ImageClass::kDisk);
  CHECK(iso.plan == TransferPlan::kDemand);
  CHECK(facts_of("disk.img", std::string(100, 'x')).image_class == ImageClass::kDisk);
  const auto class_with = [](std::size_t at, std::string_view mark) {
    return facts_of("vm-1", Content(0x11000).text(at, mark).str()).image_class;
  };
  CHECK(class_with(510, "\x55\xaa") == ImageClass::kDisk);
  CHECK(class_with(512, "EFI PART") == ImageClass::kDisk);
  CHECK(class_with(1080, "\x53\xef") == ImageClass::kDisk);
  CHECK(class_with(0, "XFSB") == ImageClass::kDisk);
  CHECK(class_with(0x10040, "_BHRfS_M") == ImageClass::kDisk);
  CHECK(class_with(0, "vhdxfile") == ImageClass::kDisk);
  CHECK(class_with(0, "nothing") == ImageClass::kOther);
}

TEST_CASE("what is unknown travels whole when small, on demand else") {
  const ImageFacts small = facts_of("notes", std::string(64 * 1024, 'x'));
  CHECK(small.image_class == ImageClass::kOther);
  CHECK(small.plan == TransferPlan::kWhole);
  CHECK(small.complaint.empty());
  CHECK(facts_of("notes", std::string(64 * 1024 + 1, 'x')).plan == TransferPlan::kDemand);
  CHECK(facts_of("", "").plan == TransferPlan::kWhole);
}

TEST_CASE("configuration travels whole up to a mebibyte") {
  const std::string name = GENERATE("vm.nvram", "vm.json", "domain.xml", "vm.cfg", "vm.vmxf");
  const ImageFacts facts = facts_of(name, std::string(1024 * 1024, 'x'));
  CHECK(facts.image_class == ImageClass::kConfig);
  CHECK(facts.plan == TransferPlan::kWhole);
  CHECK(facts_of(name, std::string(1024 * 1024 + 1, 'x')).plan == TransferPlan::kDemand);
}

TEST_CASE("a name and a size tell what travels whole when there is no manifest") {
  CHECK(plan_by_name("vm.vmx", 3000) == TransferPlan::kWhole);
  CHECK(plan_by_name("vm.nvram", 1024 * 1024) == TransferPlan::kWhole);
  CHECK(plan_by_name("disk.vmdk", 700) == TransferPlan::kWhole);
  CHECK(plan_by_name("disk.vmdk", 64 * 1024 + 1) == TransferPlan::kDemand);
  CHECK(plan_by_name("vm.log", 64 * 1024 + 1) == TransferPlan::kDemand);
  CHECK(plan_by_name("vm.vmem", 4096) == TransferPlan::kBulk);
}

TEST_CASE("images and a VM monitor's own files tell of a machine, common text does not") {
  const std::string machine = GENERATE("vm.vmx", "vm.VMSD", "vm.nvram", "d.vmdk", "d.qcow2", "vm.vmem");
  CHECK(names_machine(machine));
  const std::string other = GENERATE("settings.json", "a.xml", "notes", "vmware.log", "a.conf");
  CHECK_FALSE(names_machine(other));
}

TEST_CASE("an image that can't be read is what its name says") {
  class Unreadable final : public ImageBytes {
   public:
    std::uint64_t size() const noexcept override { return 1 << 20; }

    Status read(std::uint64_t, MutableBytes) override {
      return fail(ErrorCode::kIo, "the disk is gone");
    }
  };

  Unreadable image;
  CHECK(read_image_facts("a.vmx", image).complaint == "the disk is gone");
  CHECK(read_image_facts("a.vmem", image).plan == TransferPlan::kBulk);
  CHECK(read_image_facts("a.img", image).image_class == ImageClass::kDisk);
}

TEST_CASE("classes and plans have names for people") {
  CHECK(name_of(ImageClass::kMemory) == "memory");
  CHECK(name_of(TransferPlan::kWhole) == "whole");
}
