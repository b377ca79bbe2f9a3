"""Members that an index is written of, for the fuzzer of the writer: added in steps, with names of every kind."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from test_write_index import name_of_hash, names_of_one_hash

from blobpack.columns import FACTS

if TYPE_CHECKING:
    from random import Random

COUNTS = (0, 1, 2, 30, 511, 1023, 1024, 1025, 1600, 2048, 5000)
MANY = (20_000, 60_000, 200_000)


class Step(NamedTuple):
    """Members that are added at once: the parts that they come in, and how they are written."""

    parts: list[list[bytes]]
    in_memory: int  # hashes that stay in memory
    page_names: int
    reports: bool  # names that are repeated are reported
    damage_seed: int | None  # of the damage to the index before


class Case(NamedTuple):
    """An index that is written in steps; each step adds members to the index of the steps before."""

    data: bytes  # names, for the file of an input that failed
    steps: list[Step]
    facts: list[str]
    seed: int  # of offsets and facts


def make(generator: Random) -> Case:
    """Make members with names of every kind: repeated, long, not UTF-8, with one hash or one fingerprint."""
    is_large = generator.random() < 0.004
    steps: list[Step] = []
    known: list[bytes] = [b"first"]
    for number in range(generator.choice((1, 2, 2, 3, 5))):
        count = generator.choice(MANY if is_large and not number else COUNTS)
        names = make_names(generator, count, known)
        known = generator.sample(known + names, min(len(known) + len(names), 50))
        cuts = sorted(generator.randint(0, count) for _ in range(generator.choice((0, 1, 2, 9))))
        bounds = zip([0, *cuts], [*cuts, count], strict=True)
        steps.append(
            Step(
                [names[first:last] for first, last in bounds],
                generator.choice((1, 1, 1024, 3000, 1 << 21)),
                generator.choice((1, 40, 320, 400, 400, 480)) if count < 5000 else 400,
                generator.random() < 0.5,
                generator.getrandbits(32) if number and generator.random() < 0.3 else None,
            )
        )
    facts = [name for name in FACTS if generator.random() < 0.3]
    data = b"\n".join(name for step in steps for part in step.parts for name in part)
    return Case(data, steps, facts, generator.getrandbits(32))


def make_names(generator: Random, count: int, known: list[bytes]) -> list[bytes]:
    """Make so many names; some of them are known ones."""
    kind = generator.randrange(8)
    mark = b"%x" % generator.randrange(1 << 16)
    repeats = generator.choice((0, 0, 0.01, 0.9))
    names: list[bytes] = []
    if kind == 0:
        prefix = mark * generator.choice((1, 50))
        names = [b"%s/%09d.jpg" % (prefix, number) for number in range(count)]
    elif kind == 1:
        names = [generator.randbytes(generator.randint(0, 12)) for _ in range(count)]
    elif kind == 2:
        longest = 65_536 if count < 100 else 300
        names = [b"%d" % number + b"x" * generator.randint(0, longest) for number in range(count)]
    elif kind == 3:
        forms = (b"%d", b"./%d", b"a//%d", b"/%d/.", b"%d/")
        names = [generator.choice(forms) % generator.randrange(count) for _ in range(count)]
    elif kind == 4 and count < 600:
        # slots of one fingerprint, in the pages of all parts of the hashes
        low = generator.getrandbits(48)
        names = [name_of_hash(generator.getrandbits(8) << 56 | low) for _ in range(count)]
    elif kind == 5 and count < 600:
        names = names_of_one_hash(count + 1, generator.getrandbits(64))[1:]
    else:
        names = [b"%s-%d" % (mark, number) for number in range(count)]
    if generator.random() < 0.5:
        names.sort()
    if repeats:
        pool = known + names[:20]
        names = [generator.choice(pool) if generator.random() < repeats else name for name in names]
    return names
