"""Content credentials: finished files are signed, checked by the C2PA library and reported by `verify`."""

from __future__ import annotations

import datetime
import json
import socket
import stat
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import c2pa
import numpy as np
import pytest
from animation_samples import write_sound
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from media_samples import quadrants

from liveportrait.apps.cli import main
from liveportrait.errors import UserError
from liveportrait.folders import sha256_of
from liveportrait.marking.certificate import FILE, development_signer, load_signer
from liveportrait.marking.credentials import FORMATS, read_credentials, sign
from liveportrait.marking.seal import Marker
from liveportrait.marking.statement import COMPOSITE, Statement
from liveportrait.marking.verdict import verify
from liveportrait.media import OutputGroup, VideoWriter, load_image, save_image
from liveportrait.media.gif import GifWriter

SUFFIXES = [".mp4", ".mov", ".gif", ".jpg", ".png", ".webp"]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("LIVEPORTRAIT_CREDENTIALS", str(tmp_path / "credentials"))
    for name in ("LIVEPORTRAIT_CERTIFICATE", "LIVEPORTRAIT_KEY"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "credentials"


def written(path: Path, sound: Path | None = None) -> Path:
    """A picture or a video of half a second, without credentials."""
    if path.suffix in (".jpg", ".png", ".webp"):
        save_image(path, quadrants())
        return path
    if path.suffix == ".gif":
        writer: VideoWriter | GifWriter = GifWriter(path, Fraction(10), 96, 64)
    else:
        writer = VideoWriter(path, Fraction(20), 96, 64, audio_from=sound)
    with writer:
        for step in range(10):
            writer.write(quadrants(step=10 * step))
    return path


def signed(path: Path, sound: Path | None = None, **facts: object) -> Path:
    sign(written(path, sound), Statement("animate", "compact", "ab" * 32, **facts), development_signer())
    return path


def own_certificate(folder: Path, days: int = 30) -> tuple[Path, Path]:
    """A certificate from a studio's own authority, and its key."""
    now = datetime.datetime.now(datetime.UTC)
    names = [
        x509.Name([x509.NameAttribute(x509.NameOID.ORGANIZATION_NAME, name)]) for name in ("CA", "Studio")
    ]
    keys = [ec.generate_private_key(ec.SECP384R1()) for _ in names]
    no_usage = "content_commitment key_encipherment data_encipherment key_agreement crl_sign"
    usage = dict.fromkeys([*no_usage.split(), "encipher_only", "decipher_only"], False)
    certificates = []
    for number, (name, key) in enumerate(zip(names, keys, strict=True)):
        certificate = (
            x509.CertificateBuilder(names[0], name, key.public_key(), 1000 + number)
            .not_valid_before(now - datetime.timedelta(days=60))
            .not_valid_after(now + datetime.timedelta(days=days))
            .add_extension(x509.BasicConstraints(number == 0, None), True)
            .add_extension(
                x509.KeyUsage(digital_signature=number == 1, key_cert_sign=number == 0, **usage), True
            )
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(keys[0].public_key()), False)
        )
        if number == 1:
            purposes = x509.ExtendedKeyUsage([x509.ExtendedKeyUsageOID.EMAIL_PROTECTION])
            certificate = certificate.add_extension(purposes, False)
        certificates.append(certificate.sign(keys[0], hashes.SHA384()))
    pem, key_pem, root = folder / "studio.pem", folder / "studio.key", folder / "root.pem"
    encoding = serialization.Encoding.PEM
    pem.write_bytes(b"".join(each.public_bytes(encoding) for each in reversed(certificates)))
    root.write_bytes(certificates[0].public_bytes(encoding))
    key_pem.write_bytes(
        keys[1].private_bytes(encoding, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return pem, key_pem


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_the_c2pa_library_accepts_credentials_and_a_changed_byte_breaks_them(suffix, tmp_path):
    path = signed(tmp_path / f"out{suffix}")
    with path.open("rb") as file, c2pa.Reader(FORMATS[suffix], file) as reader:
        assert reader.get_validation_state() in ("Valid", "Trusted")
        (actions,) = (
            each["data"]["actions"]
            for each in reader.get_active_manifest()["assertions"]
            if each["label"].startswith("c2pa.actions")
        )
    assert [(each["action"], each["digitalSourceType"]) for each in actions] == [("c2pa.created", COMPOSITE)]
    found = verify(path)
    assert found.marked and found.credentials.state == "trusted"  # with this user's certificate
    assert found.credentials.facts["weights"] == {"name": "compact", "sha256": "ab" * 32}

    content = bytearray(path.read_bytes())
    plain = written(tmp_path / f"plain{suffix}").read_bytes()
    place = content.find(plain[-40:-20])  # of the picture itself, near its end
    assert place > 0
    content[place] ^= 1
    path.write_bytes(content)
    broken = read_credentials(path)
    assert broken is not None and broken.state == "broken" and broken.problems


def test_signing_a_picture_keeps_its_pixels(tmp_path):
    for suffix in (".jpg", ".png", ".webp"):
        plain, marked = written(tmp_path / f"plain{suffix}"), signed(tmp_path / f"marked{suffix}")
        assert np.array_equal(load_image(plain), load_image(marked))


def test_signing_a_video_keeps_pictures_and_sound(tmp_path):
    sound = write_sound(tmp_path / "tone.wav")

    def packets(path: Path) -> list[tuple[int, int | None, bytes]]:
        with av.open(str(path)) as container:
            assert len(container.streams) == 2
            return [(each.stream.index, each.pts, bytes(each)) for each in container.demux()]

    plain, marked = written(tmp_path / "a.mp4", sound), signed(tmp_path / "b.mp4", sound)
    assert packets(plain) == packets(marked)
    with av.open(str(plain)) as before, av.open(str(marked)) as after:
        assert before.duration == after.duration
        assert sum(1 for _ in after.decode(video=0)) == 10


def test_credentials_name_no_file_and_no_person(tmp_path):
    source = written(tmp_path / "jane doe.png")
    path = signed(tmp_path / "out.png", source=source, source_sha256=sha256_of(source))
    content = path.read_bytes()
    assert sha256_of(source).encode() in content
    for word in (b"jane", str(tmp_path).encode(), Path.home().name.encode() * 2):
        assert word not in content


def test_credentials_of_the_source_are_included(tmp_path):
    source = signed(tmp_path / "source.jpg")
    path = signed(tmp_path / "out.mp4", source=source)
    with path.open("rb") as file, c2pa.Reader("video/mp4", file) as reader:
        manifest = reader.get_active_manifest()
        assert reader.get_validation_state() in ("Valid", "Trusted")
        assert len(json.loads(reader.json())["manifests"]) == 2
    (ingredient,) = manifest["ingredients"]
    assert ingredient["relationship"] == "parentOf"
    assert verify(path).credentials.source_types == ("compositeWithTrainedAlgorithmicMedia",)


def test_the_users_own_certificate(tmp_path, monkeypatch):
    certificate, key = own_certificate(tmp_path)
    path = written(tmp_path / "out.jpg")
    sign(path, Statement("edit"), load_signer(certificate, key))
    assert verify(path).credentials.state == "valid" and verify(path).credentials.signer == "Studio"
    assert verify(path, trust=tmp_path / "root.pem").credentials.state == "trusted"
    monkeypatch.setenv("LIVEPORTRAIT_CERTIFICATE", str(certificate))
    monkeypatch.setenv("LIVEPORTRAIT_KEY", str(key))
    assert load_signer().name == "Studio"
    assert Marker().seal(True, "edit", path).summary == "marked: watermark, content credentials (Studio)"


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda pem, key: key.unlink(), "cannot be read"),
        (lambda pem, key: key.write_text("no key"), "no PEM private key"),
        (lambda pem, key: pem.write_text("none"), "no PEM certificate"),
        (lambda pem, key: own_certificate(pem.parent, days=-1), "was valid until"),
        (lambda pem, key: key.write_bytes(development_signer().key), "does not belong to the certificate"),
    ],
)
def test_a_certificate_that_cannot_sign_is_refused_before_any_work(damage, said, tmp_path):
    certificate, key = own_certificate(tmp_path)
    damage(certificate, key)
    with pytest.raises(UserError, match=said):
        Marker("compact", "", certificate, key).seal(True, "edit", tmp_path / "out.jpg")
    with pytest.raises(UserError, match="give both"):
        load_signer(certificate)


def test_the_development_key_is_created_once_and_readable_by_the_user_only(folder):
    program = "from liveportrait.marking.certificate import development_signer as d; print(d().chain.hex())"
    racing = [subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) for _ in range(4)]
    assert len({process.communicate()[0] for process in racing}) == 1
    assert [process.returncode for process in racing] == [0] * 4
    assert [path.name for path in folder.iterdir()] == [FILE]
    assert stat.S_IMODE((folder / FILE).stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_an_unusable_folder_is_reported_and_results_are_still_signed(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("LIVEPORTRAIT_CREDENTIALS", str(tmp_path / "file" / "below"))
    seal = Marker().seal(True, "edit", tmp_path / "out.png")
    assert "for this run" in seal.notes[0]
    path = written(tmp_path / "out.png")
    seal(path, path)
    assert verify(path).credentials.state == "valid"


def test_a_failed_signature_leaves_no_file(tmp_path, monkeypatch):
    """Neither of two files in one group appears, and the error names the one that failed."""
    seal = Marker().seal(True, "animate", tmp_path / "a.png")

    def full(*_: object) -> None:
        raise c2pa.C2paError.Io("no space")

    monkeypatch.setattr(c2pa.Builder, "sign", full)
    with pytest.raises(UserError, match=r"a\.png cannot be marked .*no space"), OutputGroup(seal) as group:
        for name in ("a.png", "b.png"):
            save_image(tmp_path / name, quadrants(), group=group)
    assert not list(tmp_path.glob("*.png")) and not list(tmp_path.glob(".liveportrait-*"))


@pytest.mark.parametrize(
    ("name", "mark", "summary"),
    [
        ("a.webm", True, "marked: watermark (.webm takes no content credentials)"),
        ("frames", True, "marked: watermark (a folder of PNG has no content credentials)"),
        ("a.mp4", False, "not marked: --no-mark"),
    ],
)
def test_the_summary_says_what_is_not_signed(name, mark, summary, tmp_path):
    seal = Marker().seal(mark, "animate", tmp_path / name)
    assert seal.summary == summary
    path = written(tmp_path / "a.mp4")
    before = path.read_bytes()
    seal(path, path)
    assert path.suffix == Path(name).suffix or path.read_bytes() == before
    assert mark or path.read_bytes() == before


def test_verify_reports_by_its_exit_status(tmp_path, capsys):
    marked, plain = signed(tmp_path / "marked.png"), written(tmp_path / "plain.png")
    renamed = marked.rename(tmp_path / "marked.jpg")  # the content matters, not the suffix
    (tmp_path / "text.txt").write_text("not a picture")
    assert main(["verify", str(renamed)]) == 0
    assert "marked as generated" in capsys.readouterr().out
    assert main(["verify", str(renamed), str(plain), "--json"]) == 1
    first, second = map(json.loads, capsys.readouterr().out.splitlines())
    assert first["marked"] and first["credentials"]["generated"] and first["file"] == str(renamed)
    assert not second["marked"] and second["credentials"] is None
    assert main(["verify", str(tmp_path / "text.txt"), str(renamed)]) == 2
    out = capsys.readouterr()
    assert "neither a picture" in out.err and "marked as generated" in out.out
    assert main(["verify", str(tmp_path / "missing.mp4")]) == 2


def test_credentials_that_do_not_say_generated_do_not_mark(tmp_path, monkeypatch):
    monkeypatch.setattr(
        "liveportrait.marking.statement.COMPOSITE",
        "http://cv.iptc.org/newscodes/digitalsourcetype/digitalCapture",
    )
    found = verify(signed(tmp_path / "camera.jpg"))
    assert found.credentials.intact and not found.marked
    assert found.credentials.source_types == ("digitalCapture",)


def test_remote_credentials_are_not_fetched(tmp_path):
    """Credentials stored at an address stay there: the address is reported but never contacted."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.2)
        context = c2pa.Context.from_dict({"builder": {"thumbnail": {"enabled": False}}})
        signer, statement = development_signer(), Statement("edit")
        information = c2pa.C2paSignerInfo(signer.algorithm.encode(), signer.chain, signer.key, None)
        path = tmp_path / "out.jpg"
        with c2pa.Builder(statement.manifest(has_parent=False), context) as builder:
            builder.set_no_embed()
            builder.set_remote_url(f"http://127.0.0.1:{server.getsockname()[1]}/manifest")
            with written(tmp_path / "plain.jpg").open("rb") as plain, path.open("w+b") as out:
                builder.sign(c2pa.Signer.from_info(information), "image/jpeg", plain, out)
        found = verify(path)
        assert found.credentials.state == "elsewhere" and not found.marked
        assert "not fetched" in found.lines()[1]
        with pytest.raises(TimeoutError):
            server.accept()


def test_text_from_a_file_cannot_control_the_terminal(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("liveportrait.marking.statement.PROGRAM", "Evil\x1b[2J\nout.mp4: marked")
    monkeypatch.setattr(Statement, "facts", lambda self: {"kind": ["\x1b[31m", {"\x07": 1}]})
    main(["verify", str(signed(tmp_path / "out.png"))])
    out = capsys.readouterr().out
    assert "\x1b" not in out and "\x07" not in out and "\nout.mp4" not in out
