"""nginx itself, configured as NGINX Gateway Fabric does for the class nginx: which names in TLS and HTTP go together.

The client always asks in TLS for the gateway's name, as Postern does.
"""

import pathlib
import subprocess
import tempfile
import unittest

from certificates import authority, signed

GATEWAY = "z1-weu-aks.internal.example"
HOST = "hospital-a.dicom.example"


class Nginx(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        authority(self.folder)
        signed(self.folder, "server", GATEWAY, "serverAuth")
        signed(self.folder, "client", "postern.internal.example", "clientAuth")

    def start(self, default, *names):
        """nginx with this default server, and servers with those names that demand a client certificate."""
        demand = "ssl_verify_client on; error_page 495 496 = @no; location @no { return 444; }"
        listen = f"listen unix:{self.folder}/socket ssl"
        servers = [f"server {{ {listen} default_server; {demand if default == 'certificate' else default} }}"]
        servers += [f"server {{ {listen}; server_name {name}; {demand} location / {{ return 200; }} }}" for name in names]
        folders = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        temporary = " ".join(f"{name}_temp_path {self.folder}/{name};" for name in folders)
        (self.folder / "nginx.conf").write_text(f"""
            pid {self.folder}/pid; error_log {self.folder}/error.log; worker_processes 1; events {{}}
            http {{
              access_log off; {temporary}
              ssl_certificate server.pem; ssl_certificate_key server.key; ssl_client_certificate ca.pem;
              {" ".join(servers)}
            }}""")
        # In the background; when the command returns, the socket is there.
        self.nginx()
        self.addCleanup(self.nginx, "-s", "stop")

    def nginx(self, *arguments):
        subprocess.run(["nginx", "-p", str(self.folder), "-c", "nginx.conf", "-e", "stderr", *arguments],
                       check=True, capture_output=True, timeout=20)

    def answer(self, host, *certificate):
        """The status that a request for this host gets; 000: none."""
        done = subprocess.run(
            ["curl", "--silent", "--unix-socket", "socket", "--cacert", "ca.pem", *certificate, "--max-time", "20",
             "--header", f"Host: {host}", "--output", "answer", "--write-out", "%{http_code}", f"https://{GATEWAY}/"],
            cwd=self.folder, capture_output=True, text=True)
        return done.stdout

    def test_a_gateway_name_that_no_server_has_goes_with_each_host(self):
        self.start("certificate", "*.dicom.example", "*.fhir.example")
        ours = ("--cert", "client.pem", "--key", "client.key")
        for host in (HOST, "hospital-a.fhir.example"):
            self.assertEqual(self.answer(host, *ours), "200")
            self.assertEqual(self.answer(host), "000", "no certificate, and an answer")

    def test_a_gateway_name_that_a_server_has_is_misdirected(self):
        """Why no route may have gateway.serverName."""
        self.start("certificate", "*.dicom.example", GATEWAY)
        self.assertEqual(self.answer(HOST, "--cert", "client.pem", "--key", "client.key"), "421")

    def test_a_default_server_that_refuses_unknown_names_refuses_postern(self):
        """NGINX Gateway Fabric up to 2.4."""
        self.start("ssl_reject_handshake on;", "*.dicom.example")
        self.assertEqual(self.answer(HOST, "--cert", "client.pem", "--key", "client.key"), "000")


if __name__ == "__main__":
    unittest.main()
