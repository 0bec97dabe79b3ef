"""Images decoded ahead of their use, in threads: decoders leave Python's lock, so that training need not wait.

>>> list(stream([]))
[]
"""

from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from os import cpu_count
from pathlib import Path
from threading import Lock
from typing import Any

from anatomy_r1.core.errors import AnatomyError
from anatomy_r1.core.question import Image, Question

DEFAULT_BYTES = 256 * 2**20


class ImageLoader:
    """Decodes questions' images in worker threads and keeps the latest.

    Only images from files are kept and decoded in threads; they are shared and so read-only. Others are rendered where
    they are asked for.

    Args:
        threads: workers; None: one per processor, at most 16.
        max_bytes: pixels that are kept at most. One image larger than that is decoded, but not kept.
    """

    def __init__(self, threads: int | None = None, max_bytes: int = DEFAULT_BYTES) -> None:
        if threads is not None and threads < 1:
            raise AnatomyError(f"threads must be at least 1, got {threads}.")
        self.threads = threads or min(16, cpu_count() or 1)
        self.max_bytes = max_bytes
        self._pool = ThreadPoolExecutor(self.threads, thread_name_prefix="images")
        self._kept: OrderedDict[Path, Image] = OrderedDict()
        self._bytes = 0
        self._running: dict[Path, Future[Image]] = {}
        self._lock = Lock()

    def ahead(self, questions: Iterable[Question]) -> None:
        """Start to decode what will be asked for soon."""
        for question in questions:
            if isinstance(question.image, Path):
                self._start(question, question.image)

    def pixels(self, question: Question) -> Image:
        """The image of a question: uint8 ``(H, W, 3)``.

        Raises:
            AnatomyError: as :meth:`Question.pixels`.
        """
        if not isinstance(question.image, Path):
            return question.pixels()
        found = self._start(question, question.image)
        return found.result() if isinstance(found, Future) else found

    def all_pixels(self, questions: Sequence[Question]) -> list[Image]:
        """The images of some questions, decoded side by side."""
        self.ahead(questions)
        return [self.pixels(question) for question in questions]

    def close(self) -> None:
        """End the threads."""
        self._pool.shutdown(cancel_futures=True)

    def __enter__(self) -> "ImageLoader":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.threads, self.max_bytes)  # threads can't be copied; images can be decoded again

    def _start(self, question: Question, path: Path) -> Image | Future[Image]:
        with self._lock:
            if path in self._kept:
                self._kept.move_to_end(path)
                return self._kept[path]
            if path not in self._running:
                self._running[path] = self._pool.submit(self._decode, question, path)
            return self._running[path]

    def _decode(self, question: Question, path: Path) -> Image:
        try:
            image = _frozen(question.pixels())
            with self._lock:
                if image.nbytes <= self.max_bytes:
                    self._kept[path] = image
                    self._bytes += image.nbytes
                while self._bytes > self.max_bytes:
                    self._bytes -= self._kept.popitem(last=False)[1].nbytes
            return image
        finally:
            with self._lock:
                self._running.pop(path, None)


def stream(
    questions: Iterable[Question], *, threads: int | None = None, ahead: int | None = None
) -> Iterator[tuple[Question, Image]]:
    """Questions in their order, each with its image; up to ``ahead`` (default: 4 per thread) are decoded in advance.

    Raises:
        AnatomyError: an image can't be read, at the question it belongs to.
    """
    with ImageLoader(threads, max_bytes=0) as loader:
        waiting: deque[tuple[Question, Image | Future[Image] | None]] = deque()
        for question in questions:
            path = question.image
            waiting.append((question, loader._start(question, path) if isinstance(path, Path) else None))
            if len(waiting) > (ahead or 4 * loader.threads):
                yield _finished(*waiting.popleft())
        while waiting:
            yield _finished(*waiting.popleft())


def _finished(question: Question, found: "Image | Future[Image] | None") -> tuple[Question, Image]:
    if found is None:
        return question, question.pixels()
    return question, found.result() if isinstance(found, Future) else found


def _frozen(image: Image) -> Image:
    image.setflags(write=False)
    return image
