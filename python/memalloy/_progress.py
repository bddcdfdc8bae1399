"""The progress line of sync and embed(progress=True): on stderr, silent where stderr is no terminal."""

import sys


def _megabytes(count):
    return f"{count / 1e6:.1f} MB"


def _time(seconds):
    minutes, rest = divmod(int(seconds + 0.5), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def line(progress):
    """One line of text for a Progress."""
    if progress.stage == "walk":
        return f"looking for files: {progress.files_done} so far"
    if progress.stage == "vectors":
        text = f"vector index  {100 * progress.items_done // progress.items_total} %"
        return text if progress.remaining_s is None else f"{text}  {_time(progress.remaining_s)} left"
    if progress.items_total:
        text = f"{progress.items_done}/{progress.items_total} texts  {progress.bytes_per_s / 1e3:.0f} kB/s"
        return text if progress.remaining_s is None else f"{text}  {_time(progress.remaining_s)} left"
    text = (
        f"{progress.files_done}/{progress.files_total} files  "
        f"{_megabytes(progress.bytes_done)} of {_megabytes(progress.bytes_total)}  "
        f"{progress.bytes_per_s / 1e3:.0f} kB/s  {progress.chunks_done} chunks"
    )
    if progress.stage == "done":
        return f"{text}  in {_time(progress.elapsed_s)}"
    if progress.remaining_s is not None:
        text += f"  {_time(progress.remaining_s)} left"
    return text


class Printer:
    """Rewrites one line in place and ends it when the call is done."""

    def __init__(self, stream=None):
        self._stream = sys.stderr if stream is None else stream
        self._width = 0

    def __call__(self, progress):
        stream = self._stream
        if stream is None or not stream.isatty():
            return
        text = line(progress)
        end = "\n" if progress.stage == "done" else ""
        stream.write("\r" + text.ljust(self._width) + end)
        stream.flush()
        self._width = 0 if end else len(text)
