"""Episodes to look at: a page with videos and curves, as one file or served on this machine alone."""

from __future__ import annotations

import base64
import html
import io
import json
from collections.abc import Callable
from fractions import Fraction
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote, unquote

import av
import numpy as np

from inril_core.data.episode import Episode, stated_rewards
from inril_core.data.index import EpisodeIndex, IndexEntry
from inril_core.data.manage import open_run_index
from inril_core.data.select import Selection, listed, selected
from inril_core.errors import ConfigError, InrilError
from inril_core.exchange.columns import action_names, contract_of, field_units, observation_slices
from inril_core.exchange.video import CODEC, OPTIONS
from inril_core.output import Output
from inril_core.vocabulary import outcome_word

OnProgress = Callable[[int, int, str], None]
_HOSTS = ("127.0.0.1", "localhost")
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; img-src data:; media-src data:; style-src 'unsafe-inline'; "
    "script-src 'unsafe-inline'",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}


def write_page(
    run_dir: Path,
    out: Path,
    selection: Selection | None = None,
    replace: bool = False,
    on_progress: OnProgress = lambda done, total, name: None,
) -> int:
    """Write the selected episodes of a run as one HTML file that needs nothing else; returns how many there are.

    Raises:
        ConfigError: no such run, nothing is selected, an episode cannot be read, or ``out`` is there already.
    """
    index, selection = open_run_index(run_dir), selection or Selection()
    if not listed(index, selection):
        raise ConfigError(f"{run_dir}: no episode fits; `inril data list {run_dir}` shows what there is")
    before, after = _template(f"episodes of {run_dir.name or run_dir}").split("__EPISODES__")
    count = 0
    with Output(out, replace, _is_page) as output:
        with open(output.part, "w", encoding="utf-8") as file:
            file.write(before.replace("__LIST__", ""))
            for entry, episode in selected(index, selection, True, on_progress):
                _write_block(file, entry, episode)
                count += 1
            file.write(after)
        if not count:
            raise ConfigError(f"{run_dir}: no episode fits; widen the conditions")
        output.commit()
    return count


class ViewServer:
    """Serves the selected episodes of a run on 127.0.0.1, each on a page of its own that is made when asked for.

    Args:
        port: 0 takes a free one.

    Raises:
        ConfigError: no such run, nothing is selected, or the port is taken.
    """

    def __init__(self, run_dir: Path, selection: Selection | None = None, port: int = 0) -> None:
        index, chosen = open_run_index(run_dir), selection or Selection()
        if not listed(index, chosen):
            raise ConfigError(f"{run_dir}: no episode fits; `inril data list {run_dir}` shows what there is")
        try:
            self._server = ThreadingHTTPServer(("127.0.0.1", port), _handler(index, chosen, run_dir))
        except (OSError, OverflowError) as error:
            raise ConfigError(f"port {port}: {error}; give another --port") from error
        self._server.daemon_threads = True

    @property
    def url(self) -> str:
        """Where the page is."""
        return f"http://127.0.0.1:{self._server.server_address[1]}/"

    def serve(self) -> None:
        """Answer until `close`."""
        self._server.serve_forever(poll_interval=0.2)

    def close(self) -> None:
        """End; from another thread also `serve`."""
        self._server.shutdown()
        self._server.server_close()


def _handler(index: EpisodeIndex, selection: Selection, run_dir: Path) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = 30.0

        def do_GET(self) -> None:
            host = self.headers.get("Host", "").rsplit(":", 1)[0]
            if host not in _HOSTS:  # a foreign page that made its name point here
                self.send_error(HTTPStatus.FORBIDDEN, "ask for 127.0.0.1")
                return
            name = unquote(self.path.split("?")[0]).strip("/")
            try:
                page = _list_page(index, selection, run_dir) if not name else _episode_page(index, name)
            except InrilError as error:
                self.send_error(HTTPStatus.NOT_FOUND, explain=str(error))
                return
            data = page.encode()
            self.send_response(HTTPStatus.OK)
            for key, value in {"Content-Type": "text/html; charset=utf-8", **_HEADERS}.items():
                self.send_header(key, value)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: Any) -> None:
            """Nothing is printed for each request."""

    return Handler


def _list_page(index: EpisodeIndex, selection: Selection, run_dir: Path) -> str:
    index.refresh()
    lines = [
        f'<li><a href="/{quote(entry.episode_id)}">{html.escape(entry.episode_id)}</a> '
        + html.escape(_facts(index, entry))
        for entry in listed(index, selection)
    ]
    page = _template(f"episodes of {run_dir.name or run_dir}").replace("__LIST__", f"<ul>{''.join(lines)}</ul>")
    return page.replace("__EPISODES__", "")


def _episode_page(index: EpisodeIndex, name: str) -> str:
    entry = index.find(name)
    if entry is None or not entry.steps:
        raise ConfigError(f"no episode {name!r:.140}")
    found = next(selected(index, Selection(ids=(name,), dropped=True)), None)
    if found is None:
        raise ConfigError(f"no episode {name!r:.140}")
    block = io.StringIO()
    _write_block(block, *found)
    page = _template(name).replace("__LIST__", '<p><a href="/">all episodes</a></p>')
    return page.replace("__EPISODES__", block.getvalue())


def _facts(index: EpisodeIndex, entry: IndexEntry) -> str:
    success, by = index.label(entry)
    said = outcome_word(success) + ("" if success is None else f" by {by or 'nobody'}")
    return f"{entry.purpose}, {entry.steps} steps, {said}"


def _template(title: str) -> str:
    text = files("inril_core.exchange").joinpath("view.html").read_text(encoding="utf-8")
    return text.replace("__TITLE__", html.escape(title))


def _write_block(file: IO[str], entry: IndexEntry, episode: Episode) -> None:
    # "<" cannot end the element early, nor begin a comment, when it is escaped
    text = json.dumps(_described(entry, episode), allow_nan=False).replace("<", "\\u003c")
    file.write(f'<script type="application/json" class="episode">{text}</script>\n')


def _described(entry: IndexEntry, episode: Episode) -> dict[str, Any]:
    contract = contract_of(episode.contract_text)
    rate_hz = contract.control_rate_hz if contract is not None else 10.0
    units = field_units(episode.contract_text)
    slices = observation_slices(episode.contract_text, episode.observations.shape[1])
    said = outcome_word(episode.success)
    curves = [_curve("action", action_names(episode.contract_text, episode.actions.shape[1]), episode.actions, "")]
    for name, part in slices.items():
        values = episode.observations[:, part]
        unit, frame = units.get(name, ("", ""))
        axes = [str(place) for place in range(values.shape[1])]
        curves.append(_curve(name, axes, values, f"{unit}, {frame}" if frame else unit))
    if episode.rewards is not None or episode.given_rewards is not None:
        curves.append(_curve("reward", [""], stated_rewards(episode)[:, None], ""))
    if episode.disagreement is not None:
        curves.append(_curve("disagreement of policy and person", [""], episode.disagreement[:, None], ""))
    return {
        "title": episode.episode_id,
        "facts": f"{episode.task}, {episode.purpose}, {episode.steps} steps, {said} by "
        + (episode.outcome_source or "nobody")
        + (f" ({episode.outcome_reason})" if episode.outcome_reason else ""),
        "problems": list(entry.problems),
        "steps": episode.steps,
        "rate_hz": rate_hz,
        "times_s": np.round((episode.stamps_ns - episode.stamps_ns[0]) / 1e9, 4).tolist(),
        "source": episode.source.tolist(),
        "marks": [] if episode.marks is None else episode.marks.tolist(),
        "curves": curves,
        "videos": [{"name": name, "src": _video(pixels, rate_hz)} for name, pixels in episode.images.items()],
    }


def _curve(name: str, names: list[str], values: np.ndarray, unit: str) -> dict[str, Any]:
    rows = [[float(f"{v:.6g}") if np.isfinite(v) else None for v in row] for row in values.tolist()]
    return {"name": name, "names": names, "values": rows, "unit": unit}


def _video(pixels: np.ndarray, rate_hz: float) -> str:
    """``uint8[n, H, W, 3]`` as a data URI of an MP4."""
    out, rate = io.BytesIO(), Fraction(rate_hz).limit_denominator(1000)
    height, width = (size - size % 2 for size in pixels.shape[1:3])  # browsers decode 4:2:0 alone
    with av.open(out, "w", format="mp4") as container:
        stream: Any = container.add_stream(CODEC, rate=rate, options=OPTIONS)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for number, image in enumerate(pixels):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image[:height, :width]), format="rgb24")
            frame.pts, frame.time_base = number, 1 / rate
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return "data:video/mp4;base64," + base64.b64encode(out.getvalue()).decode()


def _is_page(path: Path) -> bool:
    return path.is_file() and path.suffix == ".html" and b'class="episode"' in path.read_bytes()[: 1 << 24]
