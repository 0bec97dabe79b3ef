"""The ``ssg-vqa`` bank: SSG-VQA (arXiv 2312.10251) on frames of CholecT45/T50, made multiple-choice.

Its own questions (``qa_txt/VIDxx/<frame>.txt``) get wrong options of the kind of the right one. From its scene graphs
(``scene_graph/**/VIDxx_<frame>.json``) the question engine makes new ones, with SSG-VQA's colour words, which name the
structure, or without.
"""

from array import array
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, overload

import numpy as np

from anatomy_r1.banks.cholec45 import INSTRUMENTS, SPLITS, STRUCTURES, frame_file, frame_of, frame_root, split_of
from anatomy_r1.banks.generate import GraphBank, SceneGraph, ask, parts_of
from anatomy_r1.banks.rows import Images, Refusal, Row, RowBank, settle
from anatomy_r1.banks.ssg.questions import Line, draw_options, read_lines
from anatomy_r1.banks.ssg.scene_graphs import reaches, read_graph
from anatomy_r1.core import AnatomyError, Count, ImageFolder, Memo, Question, Seed

SOURCES = ("questions", "graphs")
COLOURS = ("per-class", "none")


def ssg_vqa(
    path: str | Path,
    images: str | Path | None = None,
    source: str | None = None,
    colour: str = "per-class",
    n_options: Count = 4,
    per_frame: Count = 8,
    seed: Seed = 0,
    follow_links: str | Path | None = None,
    require_images: bool = True,
    allow_bad: bool = False,
) -> "SSGQuestionBank | SSGGraphBank":
    """Open SSG-VQA.

    Args:
        path: folder with ``qa_txt`` or ``scene_graph`` in it.
        images: folder with the frames (``CholecT45/data``, ``data`` or ``VIDxx`` in it); None: ``path``.
        source: ``questions`` as they are, or new ones from ``graphs``; None: questions where there are any.
        colour: of questions from graphs: ``per-class`` as in SSG-VQA, or ``none``, which leaks nothing.
        n_options: options per question, 2 to 6; kinds with fewer answers have fewer.
        per_frame: questions per frame, from graphs.
        seed: of the options, and of questions from graphs.
        follow_links: folder that links among the frames may lead into; None: they must stay inside ``images``.
        require_images: refuse frames that are absent.
        allow_bad: leave bad lines and graphs out.

    Raises:
        AnatomyError: no such files or frames, an unknown option, or a bad line or graph.
    """
    folder = Path(path)
    source = source or ("questions" if (folder / "qa_txt").is_dir() else "graphs")
    for label, value, known in (("source", source, SOURCES), ("colour", colour, COLOURS)):
        if value not in known:
            raise AnatomyError(f"ssg-vqa: {label} must be one of {', '.join(known)}; got {value!r}.")
    if not 2 <= n_options <= 6 or seed < 0:
        raise AnatomyError(f"ssg-vqa: n_options must lie in 2 to 6 and seed be at least 0; got {n_options} and {seed}.")
    below = folder / ("qa_txt" if source == "questions" else "scene_graph")
    files = sorted(below.rglob("*.txt" if source == "questions" else "*.json"))
    if not files:
        raise AnatomyError(f"{folder}: expected qa_txt/VIDxx/*.txt or scene_graph/*.json in this folder.")
    root = Path(images) if images is not None else folder
    folder_of_frames = ImageFolder(root, follow_links=follow_links, required=require_images)
    frames = Frames(folder_of_frames, frame_root(root, require_images))
    if source == "questions":
        return SSGQuestionBank(folder, _Lines(files, frames, seed, n_options), allow_bad)
    return SSGGraphBank(folder, files, frames, colour, n_options, per_frame, seed, allow_bad)


class Frames:
    """The frames' images.

    Args:
        images: where they are.
        prefix: of the videos' folders.
    """

    def __init__(self, images: ImageFolder, prefix: str) -> None:
        self.images, self.prefix = images, prefix

    def find(self, name: str) -> tuple[str, int, str]:
        """Video, frame number and relative path of a frame called ``VID01/262.…`` or ``VID01_262``; checks the file."""
        video, number = frame_of(name.replace("_", "/", 1) + ".png")
        return video, number, frame_file(self.images, self.prefix, video, number)


class SSGQuestionBank(RowBank):
    """SSG-VQA's own questions, read from their files again when asked for."""

    def __init__(self, path: Path, lines: "_Lines", allow_bad: bool) -> None:
        names = (*STRUCTURES, *INSTRUMENTS)
        super().__init__("ssg-vqa", path, lines, SPLITS, allow_bad=allow_bad, structures=names)


class _Lines(Sequence[Row]):
    """Questions by file and line: 7 bytes each, as there are a million."""

    def __init__(self, files: Sequence[Path], frames: Frames, seed: int, n_options: int) -> None:
        self.images: Images = frames.images
        self.refused: list[Refusal] = []
        self._frames, self._seed, self._n_options = frames, seed, n_options
        self._files = list(files)
        self._file, self._place = array("I"), array("H")
        self._starts: dict[str, tuple[int, int]] = {}
        self._read = Memo(read_lines, 256)
        self._splits: dict[str, array[int]] = {}
        for at, file in enumerate(files):
            self._take(at, file)

    def _take(self, at: int, file: Path) -> None:
        try:
            video, number, _ = self._frames.find(f"{file.parent.name}/{file.stem}")
            lines, refused = read_lines(file)
        except AnatomyError as error:
            self.refused.append(Refusal.of(str(file), error))
            return
        self.refused += refused
        start = len(self._file)
        self._starts[f"{video}/{number}"] = (start, at)
        self._file.extend([at] * len(lines))
        self._place.extend(range(len(lines)))
        self._splits.setdefault(split_of(video), array("I")).extend(range(start, start + len(lines)))

    @property
    def rows(self) -> Sequence[Row]:
        return self

    def parts(self) -> dict[str, Sequence[int]]:
        return dict(self._splits)

    def find(self, question_id: str) -> int:
        """Number of the row ``VID01/262/5``, 5 being the line."""
        frame, _, line = question_id.rpartition("/")
        if frame not in self._starts or not (line.isascii() and line.isdigit()):
            return -1
        start, at = self._starts[frame]
        numbers = [found.number for found in self._lines(at)]
        return start + numbers.index(int(line)) if int(line) in numbers else -1

    def __len__(self) -> int:
        return len(self._file)

    @overload
    def __getitem__(self, index: int) -> Row: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Row]: ...
    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[at] for at in range(len(self))[index]]
        at, place = self._file[index], self._place[index]
        lines = self._lines(at)
        if place >= len(lines):
            raise AnatomyError(f"{self._files[at]}: the file changed since it was opened; open it again.")
        return self._row(self._files[at], lines[place])

    def _lines(self, at: int) -> list[Line]:
        return self._read(self._files[at])[0]

    def _row(self, file: Path, line: Line) -> Row:
        video, number, image = self._frames.find(f"{file.parent.name}/{file.stem}")
        options, answer = line.options(self._seed, (int(video[3:]), number), self._n_options)
        return Row(
            id=f"{video}/{number}/{line.number}",
            image=image,
            stem=line.stem,
            options=options,
            answer=answer,
            structure=line.answer,
            question_type=line.question_type,
            modality="laparoscopy",
            group_key=video,
            source="ssg-vqa",
            split=split_of(video),
            distractors=line.pool if line.kind == "structure" else (),
            details={"template": line.template, "kind": line.kind},
        )


class SSGGraphBank(GraphBank):
    """New questions from SSG-VQA's scene graphs; all graphs are checked when the bank is opened."""

    def __init__(
        self,
        path: Path,
        files: Sequence[Path],
        frames: Frames,
        colour: str,
        n_options: int,
        per_frame: int,
        seed: int,
        allow_bad: bool,
    ) -> None:
        self._graphs: list[tuple[Path, str, str]] = []  # file, video, image
        refused = []
        self._colour, self._n_options, self._images = colour, n_options, frames.images
        for file in files:
            try:
                video, _, image = frames.find(read_graph(file, colour)[0])
                self._graphs.append((file, video, image))
            except AnatomyError as error:
                refused.append(Refusal.of(str(file), error))
        kept = settle(str(path), refused, len(self._graphs), allow_bad)
        parts = parts_of([video for _, video, _ in self._graphs], split_of)
        super().__init__("ssg-vqa", str(path), parts, STRUCTURES, seed=seed, per_frame=per_frame, refused=kept)
        self._graph = Memo(read_graph, 256)

    def graph(self, index: int) -> SceneGraph:
        """What the frame of a question shows."""
        return self._graph(self._graphs[self._find(index)[0]][0], self._colour)[1]

    def _group(self, frame: int) -> str:
        return self._graphs[frame][1]

    def _where(self, frame: int) -> str:
        return str(self._graphs[frame][0])

    def _ask(self, frame: int, rng: np.random.Generator, name: str, spare: bool) -> Question | None:
        file, video, image = self._graphs[frame]
        graph = self._graph(file, self._colour)[1]
        draft = ask(graph, rng, STRUCTURES, n_options=self._n_options)
        if draft is None:
            return None
        unsure = _there(graph, draft.parsed.phrase.location)
        pool = tuple(other for other in draft.pool if other not in unsure)
        if len(pool) < self._n_options - 1:
            return None
        options = draw_options(draft.structure, pool, rng, self._n_options)
        return replace(draft, pool=pool, details={**draft.details, "graph": file.name}).question(
            options,
            id=name,
            image=self._images.source(image),
            modality="laparoscopy",
            group_key=video,
            source="ssg-vqa/graphs",
        )


def _there(graph: SceneGraph, location: str | None) -> frozenset[str]:
    """Structures whose boxes reach a location: they too may be seen there."""
    if location is None:
        return frozenset()
    return frozenset(item.name for item in graph.objects if reaches(item.box, location))
