"""The program itself reads what the chart writes for it, with certificates as the Secrets Store CSI driver lays them down."""

import os
import pathlib
import subprocess
import tempfile
import unittest

from certificates import authority, signed
from chart import NAMESPACE, RELEASE, EachCase, case, each, quiet

MOUNT = "/var/run/postern/certificates"
BOOKS = "/var/lib/postern"


class Configuration(EachCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(cls.folder.cleanup)
        cls.mount = mounted(pathlib.Path(cls.folder.name))

    def check(self, toml):
        """Exit code and text of `postern-control check routing`, with the volumes' paths in the text replaced by ours."""
        file = pathlib.Path(self.folder.name) / "postern-routing.toml"
        file.write_text(toml.replace(MOUNT, str(self.mount)).replace(BOOKS, self.folder.name))
        done = subprocess.run([os.environ["CONTROL"], "check", "routing", "--config", str(file)],
                              capture_output=True, text=True, env=quiet())
        return done.returncode, done.stdout + done.stderr

    @each(lambda values: values.get("routing.enabled", True))
    def test_is_accepted(self, _, rendered):
        toml = rendered.one("ConfigMap", f"{RELEASE}-routing")["data"]["postern-routing.toml"]
        self.assertIn(MOUNT, toml)
        self.assertEqual(self.check(toml)[0], 0, self.check(toml)[1])

    def test_is_really_read(self):
        rendered = case("approuting-istio")
        toml = rendered.one("ConfigMap", f"{RELEASE}-routing")["data"]["postern-routing.toml"]
        for wrong in (toml.replace("[admin]", "[amin]"), toml.replace('kind = "sqlite"', 'kind = "flat"'),
                      toml.replace("server.pem", "absent.pem")):
            self.assertNotEqual(wrong, toml)
            self.assertEqual(self.check(wrong)[0], 2, wrong)


def mounted(folder):
    """A volume as the driver makes it: files through ..data, which is replaced as one. The server's file is the secret
    behind a certificate of Key Vault: key, then chain."""
    version = folder / "mount" / "..2026_11_21"
    version.mkdir(parents=True)

    authority(folder)
    signed(folder, "server", f"{RELEASE}-routing.{NAMESPACE}.svc", "serverAuth")
    (version / "server.pem").write_text((folder / "server.key").read_text() + (folder / "server.pem").read_text())
    (version / "client-ca.pem").write_text((folder / "ca.pem").read_text())
    data = folder / "mount" / "..data"
    data.symlink_to(version.name)
    for name in ("server.pem", "client-ca.pem"):
        (folder / "mount" / name).symlink_to(f"..data/{name}")
    return folder / "mount"


if __name__ == "__main__":
    unittest.main()
