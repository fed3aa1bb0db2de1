"""Pins: a page that leaves this machine, runs what a recording holds, or shows something else."""

import http.client
import json
import re
import threading

import pytest

from inril_core.errors import ConfigError
from inril_core.exchange.view import ViewServer, write_page
from tests.exchange.episodes import make, record_run


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    hostile = make(1, steps=4)
    object.__setattr__(hostile, "outcome_source", "</script><script>alert(1)</script>")
    return record_run(tmp_path_factory.mktemp("view") / "run", [make(0, images=True, marks=True), hostile])


def blocks(text):
    found = re.findall(r'<script type="application/json" class="episode">(.*?)</script>', text, re.DOTALL)
    return [json.loads(block) for block in found]


def test_one_file_has_everything(run, tmp_path):
    assert write_page(run, tmp_path / "page.html") == 2
    text = (tmp_path / "page.html").read_text()
    first, second = blocks(text)
    assert first["title"] == "made-0" and len(first["times_s"]) == 7 and first["videos"][0]["name"] == "front"
    assert first["videos"][0]["src"].startswith("data:video/mp4;base64,") and len(first["marks"]) == 6
    names = {curve["name"]: curve for curve in first["curves"]}
    assert names["tip_in_hole_m"]["unit"] == "m, hole" and len(names["action"]["values"]) == 6
    assert "<script>alert" not in text and "alert(1)" in second["facts"]
    assert not re.search(r'(src|href)="(https?:)?//', text)
    with pytest.raises(ConfigError, match="is there already"):
        write_page(run, tmp_path / "page.html")
    write_page(run, tmp_path / "page.html", replace=True)
    (tmp_path / "own.html").write_text("<html>")
    with pytest.raises(ConfigError, match="not made by this command"):
        write_page(run, tmp_path / "own.html", replace=True)


def test_it_is_served_to_this_machine_alone(run):
    server = ViewServer(run)
    thread = threading.Thread(target=server.serve)
    thread.start()
    try:
        host, port = server.url.removeprefix("http://").strip("/").split(":")

        def ask(path, name=None):
            connection = http.client.HTTPConnection(host, int(port), timeout=60)
            connection.request("GET", path, headers={"Host": name} if name else {})
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read().decode()

        assert host == "127.0.0.1"
        status, headers, text = ask("/")
        assert status == 200 and 'href="/made-0"' in text and "default-src 'none'" in headers["Content-Security-Policy"]
        status, _, text = ask("/made-0")
        assert status == 200 and blocks(text)[0]["title"] == "made-0"
        for path in ("/none", "/..%2f..%2fetc%2fpasswd", "/%00"):
            assert ask(path)[0] == 404
        assert ask("/", "evil.example:80")[0] == 403
        with pytest.raises(ConfigError, match="give another --port"):
            ViewServer(run, port=int(port))
    finally:
        server.close()
        thread.join(timeout=30)
    assert not thread.is_alive()
