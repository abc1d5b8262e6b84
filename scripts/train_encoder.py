"""Train the static encoder of the search: `python scripts/train_encoder.py --help`.

Needs PyTorch and sentence-transformers, which the project itself does without. The data are folders in the
form that `benchmarks/retrieval.py` reads (`scripts/training_sets.py` writes them); a set without requests
gives its tools' texts. One thread and the same seed give the same weights.
"""

import argparse
import hashlib
import random
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a file

from benchmarks.retrieval_data import RetrievalSet, load_sets
from mcp_federation.engine.documents import ToolDocument, tool_document
from mcp_federation.engine.search.index import parted
from mcp_federation.engine.search.wordpiece import WordPiece

Floats = NDArray[np.float32]
Fields = tuple[list[int], list[int], list[int], list[int]]

BATCH = 384
TEMPERATURE = 0.05
NEGATIVES = 256
SIMILARITY_WEIGHT = 5.0
CONTRAST_WEIGHT = 0.5
TOLD_WEIGHT = 0.3
DROPPED = 0.15
"""The share of a request's pieces that a step leaves out."""
MAX_TAUGHT = 4_000
"""Requests of a set, about, that the teacher sees."""
MAX_PIECES = 64
"""Pieces of a text that the teacher reads."""
RARE = 1e-3
"""The share of all pieces at which a piece's first weight is a half: smooth inverse frequency."""


@dataclass(frozen=True)
class Pairs:
    """Requests as pieces with the indices of the documents that serve them; documents as pieces by field."""

    requests: list[tuple[list[int], list[int]]]
    documents: list[Fields]
    weight: float = 1.0


class Student:
    """A vector and two logarithmic weights for each piece."""

    def __init__(self, vectors: Floats, weights: Floats) -> None:
        self.vectors = torch.nn.Parameter(torch.tensor(vectors))
        self.request = torch.nn.Parameter(torch.tensor(weights))
        self.document = torch.nn.Parameter(torch.tensor(weights))

    def encode(self, texts: Sequence[Sequence[int]], weights: Any) -> Any:
        """Unit vectors of texts as pieces."""
        flat = torch.tensor([piece for text in texts for piece in text])
        starts = torch.tensor(np.cumsum([0, *(len(text) for text in texts)])[:-1])
        bags = torch.nn.functional.embedding_bag(
            flat, self.vectors, starts, mode="sum", per_sample_weights=weights[flat].exp()
        )
        return torch.nn.functional.normalize(bags, dim=1)


def main() -> None:
    args = arguments()
    torch.manual_seed(args.seed)
    pick = random.Random(args.seed)
    vocabulary = args.vocabulary.read_text(encoding="utf-8").splitlines()
    pieces = WordPiece(vocabulary)
    sets = [data for folder in args.data for data in load_sets(folder) if data.name not in args.leave_out]
    torch.set_num_threads(1)
    texts = [text for data in sets for text in texts_of(data)]
    teacher = Teacher(args.teacher, args.taught)
    taught = teacher.vectors(texts)
    alone = teacher.vectors([piece.removeprefix("##") for piece in vocabulary])
    targets, vectors = project(taught, alone, args.dimensions)
    ids = [pieces.ids(text) or [0] for text in texts]
    student = Student(vectors, first_weights(ids, len(vocabulary)))
    train(student, ids, torch.tensor(targets), [pairs_of(data, pieces) for data in sets], args.steps, pick)
    store(student, args.out)


def texts_of(data: RetrievalSet) -> list[str]:
    """Requests, documents, and names alone, as the teacher is to see them."""
    documents = [tool_document(spec) for spec in data.specs()]
    return [
        *(request.text for request in data.requests[:: max(1, len(data.requests) // MAX_TAUGHT)]),
        *(f"{document.name}: {document.description[:400]}" for document in documents),
        *(document.name for document in documents[::5]),
    ]


class Teacher:
    """A sentence-transformers model that keeps its unit vectors in a file from one run to the next."""

    def __init__(self, model: Path, kept: Path | None) -> None:
        self._model = model
        self._kept = kept
        self._vectors: dict[str, Floats] = {}
        if kept and kept.exists():
            stored = np.load(kept)
            self._vectors = dict(zip(stored["digests"].tolist(), stored["vectors"], strict=True))

    def vectors(self, texts: Sequence[str]) -> Floats:
        """The unit vectors of the texts."""
        digests = [hashlib.blake2b(text.encode(), digest_size=12).hexdigest() for text in texts]
        new = {
            digest: text for digest, text in zip(digests, texts, strict=True) if digest not in self._vectors
        }
        if new:
            model = SentenceTransformer(str(self._model), device="cpu").to(torch.bfloat16)
            model.max_seq_length = MAX_PIECES
            found = model.encode(
                list(new.values()), batch_size=64, convert_to_tensor=True, normalize_embeddings=True
            )
            self._vectors.update(zip(new, found.to(torch.float16).numpy(), strict=True))
            if self._kept:
                np.savez(self._kept, digests=list(self._vectors), vectors=list(self._vectors.values()))
        return np.stack([self._vectors[digest] for digest in digests]).astype(np.float32)


def project(taught: Floats, alone: Floats, dimensions: int) -> tuple[Floats, Floats]:
    """Targets and first vectors in the principal components of what was taught, most telling first."""
    mean = taught.mean(axis=0)
    components = np.linalg.svd(taught[::3] - mean, full_matrices=False)[2][:dimensions].T
    targets = (taught - mean) @ components
    vectors = (alone - alone.mean(axis=0)) @ components
    units: Floats = targets / np.linalg.norm(targets, axis=1, keepdims=True)
    return units, vectors / vectors.std() / 10


def first_weights(texts: Sequence[Sequence[int]], pieces: int) -> Floats:
    """Logarithms of smooth inverse frequencies."""
    counts = np.bincount(np.concatenate([np.array(text) for text in texts]), minlength=pieces)
    shares = (counts + 0.5) / counts.sum()
    weights: Floats = np.log(RARE / (RARE + shares)).astype(np.float32)
    return weights


def pairs_of(data: RetrievalSet, pieces: WordPiece) -> Pairs:
    """A set's requests with their tools; of a set without requests, two tellings of each tool."""
    documents = [tool_document(spec) for spec in data.specs()]
    fields = [_fields(document, pieces) for document in documents]
    place = {tool: index for index, tool in enumerate(data.ids().values())}
    requests = [
        (pieces.ids(request.text), [place[tool] for tool in sorted(request.relevant)])
        for request in data.requests
        if request.relevant
    ]
    if requests:
        return Pairs([pair for pair in requests if pair[0]], fields)
    told = [pair for document in documents for pair in _told_twice(document, pieces)]
    return Pairs(
        [(asked, [index]) for index, (asked, _) in enumerate(told)],
        [fields for _, fields in told],
        TOLD_WEIGHT,
    )


def _told_twice(document: ToolDocument, pieces: WordPiece) -> list[tuple[list[int], Fields]]:
    """Two tellings of a tool, one as the request and the other as the document: its name and its description;
    the first sentence of that, and all else.
    """
    name, description, parameters, server = _fields(document, pieces)
    lead, rest = parted(document.description)
    pairs: list[tuple[list[int], Fields]] = [
        (name, ([], description, [], [])),
        (pieces.ids(lead), (name, pieces.ids(rest[:400]), parameters, server)),
    ]
    return [(asked, fields) for asked, fields in pairs if asked and any(fields)]


def _fields(document: ToolDocument, pieces: WordPiece) -> Fields:
    texts = (document.name, document.description[:400], document.parameters[:600], document.server)
    name, description, parameters, server = (pieces.ids(text) for text in texts)
    return name, description, parameters, server


def some_fields(fields: tuple[list[int], ...], pick: random.Random) -> list[int]:
    """The description and some of the other fields: a document may lack any of them."""
    name, description, parameters, server = fields
    kept = description[:]
    for field, share in ((name, 0.9), (parameters, 0.4), (server, 0.2)):
        if pick.random() < share:
            kept += field
    return kept or [0]


def some_pieces(request: list[int], pick: random.Random) -> list[int]:
    """Most of a request's pieces, so that none is learned by heart."""
    return [piece for piece in request if pick.random() >= DROPPED] or request


def train(
    student: Student,
    ids: list[list[int]],
    targets: Any,
    sets: Sequence[Pairs],
    steps: int,
    pick: random.Random,
) -> None:
    """Each step: stand where the teacher puts a batch of texts, and bring a set's requests to their tools.

    A set's turn comes by the square root of its requests.
    """
    optimizer = torch.optim.Adam(
        [
            {"params": [student.vectors], "lr": 2e-3},
            {"params": [student.request, student.document], "lr": 1e-2},
        ]
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min(1.0, (step + 1) / 100) * max(0.02, 1 - step / steps)
    )
    shares = [len(pairs.requests) ** 0.5 for pairs in sets]
    for step in range(steps):
        batch = [pick.randrange(len(ids)) for _ in range(min(BATCH, len(ids)))]
        weights = student.document if step % 2 else student.request
        loss = distillation(student.encode([ids[place] for place in batch], weights), targets[batch])
        pairs = pick.choices(sets, shares)[0]
        loss = loss + CONTRAST_WEIGHT * pairs.weight * contrast(student, pairs, pick)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 100 == 0:
            print(f"step {step}: loss {loss.item():.3f}", flush=True)


def distillation(found: Any, wanted: Any) -> Any:
    """Cosine to the teacher's vector, and the squared error of the similarities within the batch."""
    similarities = ((found @ found.T - wanted @ wanted.T) ** 2).mean()
    return (1 - (found * wanted).sum(dim=1)).mean() + SIMILARITY_WEIGHT * similarities


def contrast(student: Student, pairs: Pairs, pick: random.Random) -> Any:
    """InfoNCE over the batch's tools and some others; of a request, without what serves it as well."""
    batch = pick.sample(pairs.requests, min(BATCH, len(pairs.requests)))
    chosen = [pick.choice(serving) for _, serving in batch]
    columns = {tool: place for place, tool in enumerate(dict.fromkeys(chosen))}
    for tool in pick.sample(range(len(pairs.documents)), min(NEGATIVES, len(pairs.documents))):
        columns.setdefault(tool, len(columns))
    documents = [some_fields(pairs.documents[tool], pick) for tool in columns]
    scores = (
        student.encode([some_pieces(request, pick) for request, _ in batch], student.request)
        @ student.encode(documents, student.document).T
        / TEMPERATURE
    )
    for row, (_, serving) in enumerate(batch):
        also = [columns[tool] for tool in serving if tool in columns and tool != chosen[row]]
        scores[row, also] = -1e4
    return torch.nn.functional.cross_entropy(scores, torch.tensor([columns[tool] for tool in chosen]))


def store(student: Student, path: Path) -> None:
    """Vectors as int8 with a scale each; logarithmic weights as float16."""
    vectors = student.vectors.detach().numpy()
    scales = np.maximum(np.abs(vectors).max(axis=1) / 127, 1e-6)
    np.savez(
        path,
        vectors=np.clip(np.rint(vectors / scales[:, None]), -127, 127).astype(np.int8),
        scales=scales.astype(np.float16),
        request_weights=student.request.detach().numpy().astype(np.float16),
        document_weights=student.document.detach().numpy().astype(np.float16),
    )


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, action="append", required=True, help="a folder of sets")
    parser.add_argument("--leave-out", action="append", default=[], help="a set that is not trained on")
    parser.add_argument("--teacher", type=Path, required=True, help="a sentence-transformers model's folder")
    parser.add_argument("--taught", type=Path, help="keep the teacher's vectors there for another run")
    parser.add_argument("--vocabulary", type=Path, required=True, help="the pieces, one a line")
    parser.add_argument("--out", type=Path, required=True, help="the file of weights to write")
    parser.add_argument("--dimensions", type=int, default=256)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


if __name__ == "__main__":
    main()
