"""Certificates of an authority of one's own, and a Redis server that speaks TLS on its port and nothing else."""
import subprocess
from pathlib import Path

from .redis_server import RedisServer

KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")


def openssl(*arguments):
    """Run it; what it says is shown when it fails."""
    done = subprocess.run(["openssl", *map(str, arguments)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


class Authority:
    """Certificates as `NAME.crt` and keys as `NAME.key`, in one folder; its own is `ca.crt`."""

    def __init__(self, folder):
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.certificate = self.own("ca")

    def own(self, name, *names):
        """A certificate that is its own authority, as `openssl req -x509` makes one."""
        certificate = self.folder / f"{name}.crt"
        more = ["-addext", f"subjectAltName={','.join(names)}"] if names else []
        openssl("req", "-x509", *KEY, "-keyout", certificate.with_suffix(".key"), "-out", certificate, "-days", "30",
                "-subj", f"/CN={name}", *more)
        return certificate

    def sign(self, name, *names, days=30):
        """A certificate of this authority for these names, such as `DNS:localhost`; its path."""
        certificate, request, extensions = (self.folder / f"{name}.{end}" for end in ("crt", "csr", "ext"))
        openssl("req", *KEY, "-keyout", certificate.with_suffix(".key"), "-out", request, "-subj", f"/CN={name}")
        extensions.write_text(f"subjectAltName={','.join(names)}\n" if names else "basicConstraints=CA:FALSE\n")
        openssl("x509", "-req", "-in", request, "-CA", self.certificate, "-CAkey", self.folder / "ca.key",
                "-CAcreateserial", "-days", days, "-extfile", extensions, "-out", certificate)
        return certificate


class TlsServer(RedisServer):
    """A Redis server on a port with TLS. The test's own clients come by its unix socket."""

    def __init__(self, authority, certificate, *options, host="localhost"):
        clients = () if "--tls-auth-clients" in options else ("--tls-auth-clients", "no")
        key = Path(certificate).with_suffix(".key")
        super().__init__("--tls-cert-file", certificate, "--tls-key-file", key, "--tls-ca-cert-file",
                         authority.certificate, *clients, *options)
        self.authority = authority
        self.host = host

    def listening(self):
        """With TLS only."""
        return ["--port", "0", "--tls-port", str(self.port)]

    def secured(self, login="", **parameters):
        """Database 0 over TLS, with these `ssl_…` parameters."""
        query = "&".join(f"ssl_{name}={value}" for name, value in parameters.items())
        return f"rediss://{login}{self.host}:{self.port}/0" + (f"?{query}" if query else "")

    @property
    def url(self):
        """As an operator writes it for Celery and for fairstalk, who trust the authority of its certificate."""
        return self.secured(cert_reqs="required", ca_certs=self.authority.certificate)
