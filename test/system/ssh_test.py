"""Mounts over SSH against a private sshd on loopback: who is trusted, and what is said when not."""

import os
import sys
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "support"))
import testbed
from testbed import Mount, Sshd, TempTree


class SshMount(unittest.TestCase):
    def setUp(self):
        tree = TempTree()
        self.dir = tree.__enter__()
        self.addCleanup(tree.__exit__)
        self.export = self.dir / "export"
        self.export.mkdir()
        (self.export / "f").write_text("hello")

    def sshd(self, **kwargs):
        sshd = Sshd(self.dir, **kwargs)
        sshd.__enter__()
        self.addCleanup(sshd.__exit__)
        return sshd

    def mount(self, options, check=True, source=None):
        mount = Mount(source or f"server:{self.export}", self.dir, options, check=check)
        mount.__enter__()
        self.addCleanup(mount.__exit__)
        return mount

    def refused(self, options, *words, source=None):
        result = self.mount(options, check=False, source=source).result
        self.assertEqual(result.returncode, 32, result.stderr)
        for word in words:
            self.assertIn(word, result.stderr)
        self.assertLessEqual(len(result.stderr.strip().splitlines()), 5, result.stderr)
        self.assertFalse(os.path.ismount(self.dir / "mnt"))

    def test_a_mount_over_libssh_joins_tcp_and_reads(self):
        m = self.mount(self.sshd().options())
        self.assertEqual((m.path / "f").read_text(), "hello")
        m.wait_transport("tcp")
        link = m.status()["link"]
        self.assertEqual(link["state"], "online")
        self.assertIn("libssh", link["session_transport"])
        self.assertTrue(link["survives_ssh"])

    def test_a_mount_over_the_ssh_command(self):
        sshd = self.sshd()
        m = self.mount([f"ssh_command=ssh -F {sshd.config}", sshd.options()[1]])
        self.assertEqual((m.path / "f").read_text(), "hello")
        m.wait_transport("tcp")

    def test_verbose_names_the_steps_and_only_twice_verbose_quotes_libssh(self):
        m = Mount(f"server:{self.export}", self.dir, self.sshd().options())
        m.path.mkdir()
        self.addCleanup(m.__exit__)
        for flag in "-v", "-vv":
            with self.subTest(flag=flag):
                told = testbed.run(*m.command(), flag).stderr
                m.umount()
                for step in ("server: connecting to 127.0.0.1", "is known",
                             "server: logged in as root", "server: starting"):
                    self.assertIn(step, told)
                self.assertEqual("libssh: " in told, flag == "-vv", told)

    def test_transport_ssh_stays_inside_ssh(self):
        testbed.random_file(self.export / "disk", 3_000_000)
        m = self.mount([*self.sshd().options(), "transport=ssh"])
        self.assertEqual((m.path / "disk").read_bytes(), (self.export / "disk").read_bytes())
        self.assertIn("ssh", m.status()["link"]["transport"])

    def test_a_subsystem_and_a_forced_command_serve_too(self):
        sshd = self.sshd(forced_command=f"{testbed.SLIPWAYD} session --restrict-to "
                                        f"{self.export} --read-only")
        m = self.mount([sshd.options()[0]])
        self.assertEqual((m.path / "f").read_text(), "hello")
        m.umount()
        self.refused([sshd.options()[0]], "/etc", source="server:/etc")

    def test_a_subsystem_serves(self):
        m = self.mount([self.sshd().options()[0], "subsystem=slipway"])
        self.assertEqual((m.path / "f").read_text(), "hello")

    def test_an_unknown_host_key_is_refused_with_the_fix(self):
        sshd = self.sshd()
        sshd.known_hosts.write_text("")
        self.refused(sshd.options(), "SHA256:", str(sshd.known_hosts))

    def test_a_changed_host_key_is_refused_with_the_fix(self):
        sshd = self.sshd()
        stranger = (sshd.directory / "stranger.pub").read_text().split()
        sshd.known_hosts.write_text(f"[127.0.0.1]:{sshd.port} {stranger[0]} {stranger[1]}\n")
        self.refused(sshd.options(), "ssh-keygen", "-R")

    def test_a_revoked_host_key_is_refused(self):
        sshd = self.sshd()
        key = (sshd.directory / "host.pub").read_text().split()
        sshd.known_hosts.write_text(sshd.known_hosts.read_text()
                                    + f"@revoked * {key[0]} {key[1]}\n")
        self.refused(sshd.options(), "revoked")

    def test_a_refused_key_names_the_files_that_were_tried(self):
        sshd = self.sshd()
        (sshd.directory / "authorized_keys").write_text("")
        self.refused(sshd.options(), str(sshd.directory / "user"))

    def test_a_host_without_slipwayd_is_named(self):
        self.refused([self.sshd().options()[0], "server_command=slipwayd-is-not-here session"],
                     "slipwayd")

    def test_noise_of_start_up_files_is_skipped(self):
        sshd = self.sshd()
        noisy = self.dir / "noisy"
        noisy.write_text(f"#!/bin/sh\necho welcome; echo to this host\nexec {testbed.SLIPWAYD} "
                         "session\n")
        noisy.chmod(0o755)
        m = self.mount([sshd.options()[0], f"server_command={noisy}"])
        self.assertEqual((m.path / "f").read_text(), "hello")

    def test_endless_noise_is_named(self):
        sshd = self.sshd()
        noisy = self.dir / "noisy"
        noisy.write_text("#!/bin/sh\nexec yes welcome\n")
        noisy.chmod(0o755)
        self.refused([sshd.options()[0], f"server_command={noisy}"], "welcome")

    def test_another_program_on_the_other_side_is_named(self):
        self.refused([self.sshd().options()[0], "server_command=echo no slipway here"],
                     "no slipway here")

    def test_a_missing_export_is_named(self):
        self.refused(self.sshd().options(), "/no/such/export", source="server:/no/such/export")

    def test_configuration_that_libssh_would_ignore_is_refused_by_name(self):
        sshd = self.sshd()
        sshd.config.write_text("RevokedHostKeys /etc/ssh/revoked\n" + sshd.config.read_text())
        self.refused(sshd.options(), "RevokedHostKeys", "ssh_command=ssh")


if __name__ == "__main__":
    if lack := testbed.missing():
        print(f"skipped: {lack}")
        sys.exit(testbed.SKIP)
    unittest.main(verbosity=2)
