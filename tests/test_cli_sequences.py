# SPDX-License-Identifier: Apache-2.0
"""`attend run` on sequences that have lengths, positions and memory of their own: every layout gives what the sequences
give one by one, and every file that does not fit is refused in one line that says why."""

import math
import random
import unittest

from cli_support import Case, Tensor, npy, product, randoms, read_f32, reference

HQ, HKV, D, DV = 4, 2, 6, 7
NAN = math.nan


def rows_of(tensor, begin, end):
    """Rows of (1, H, L, D)."""
    _, heads, length, dim = tensor.shape
    return Tensor((1, heads, end - begin, dim),
                  [n for h in range(heads) for n in tensor.numbers[(h * length + begin) * dim : (h * length + end) * dim]])


def side_by_side(tensors):
    """Outputs of sequences, (1, H, L) or (1, H, L, D), in a row; the last dimension is padded with zeros."""
    heads = tensors[0].shape[1]
    last = max(t.shape[3] for t in tensors) if len(tensors[0].shape) == 4 else None
    numbers = []
    for h in range(heads):
        for t in tensors:
            for i in range(t.shape[2]):
                numbers += [t.at(0, h, i)] if last is None else [t.at(0, h, i, j) if j < t.shape[3] else 0.0 for j in range(last)]
    rows = sum(t.shape[2] for t in tensors)
    return Tensor((1, heads, rows) if last is None else (1, heads, rows, last), numbers)


def starts_of(lengths):
    return Tensor((len(lengths) + 1,), [sum(lengths[:b]) for b in range(len(lengths) + 1)])


class Sequences(Case):
    """Queries and keys of three sequences, one of which has no query and one no key."""

    QUERIES, KEYS = [3, 0, 2, 1], [5, 4, 7, 0]

    def setUp(self):
        super().setUp()
        self.queries = [randoms(1, HQ, n, D, seed=f"q{b}") for b, n in enumerate(self.QUERIES)]
        self.keys = [randoms(1, HKV, n, D, seed=f"k{b}") for b, n in enumerate(self.KEYS)]
        self.values = [randoms(1, HKV, n, DV, seed=f"v{b}") for b, n in enumerate(self.KEYS)]
        self.q_starts, self.kv_starts = starts_of(self.QUERIES), starts_of(self.KEYS)
        self.write("q_starts", self.q_starts, "<i4")
        self.write("kv_starts", self.kv_starts, "<i8")

    def wanted(self, of=lambda b: {}, **semantics):
        """out, lse and weights by sequence; `of` says what is the sequence's own."""
        return [reference(q, k, v, first=b, **(semantics | of(b)))
                for b, (q, k, v) in enumerate(zip(self.queries, self.keys, self.values))]

    def compute(self, *options):
        result = self.run_attend("--lse", "lse.npy", "--weights", "weights.npy", *options)
        self.assertEqual((result.returncode, result.stderr), (0, ""), options)
        return result.stdout

    def compare(self, wanted, keys=None):
        """Outputs that are packed. `keys`: how many the weights have room for."""
        for name, parts in zip(("out", "lse", "weights"), zip(*wanted)):
            expected, got = side_by_side(parts), self.output(name)
            if name == "weights" and keys:
                _, heads, rows, last = expected.shape
                numbers = [expected.at(0, h, i, j) if j < last else 0 for h in range(heads) for i in range(rows) for j in range(keys)]
                expected = Tensor((1, heads, rows, keys), numbers)
            self.assertEqual(got.shape, expected.shape, name)
            for a, b in zip(got.numbers, expected.numbers, strict=True):
                self.assertTrue(a == b or abs(a - b) <= 2e-6 * max(1, abs(b)), f"{name}: {a} is not {b}")

    def write_packed_queries(self):
        self.write("q", side_by_side(self.queries))

    def write_packed_keys(self):
        self.write("k", side_by_side(self.keys))
        self.write("v", side_by_side(self.values))

    def write_pages(self, rows=3, spare=2, seed=0):
        """Keys and values in pages of so many rows, in any order and NaN where there is no key; the table has -1 there."""
        pages = [(b, at) for b, n in enumerate(self.KEYS) for at in range(0, n, rows)] + [None] * spare
        random.Random(seed).shuffle(pages)
        width = max(-(-n // rows) for n in self.KEYS) + 1
        table = Tensor((len(self.KEYS), width), [-1] * (len(self.KEYS) * width))
        for number, page in enumerate(pages):
            if page:
                table.numbers[page[0] * width + page[1] // rows] = number
        for name, tensors, dim in ("k", self.keys, D), ("v", self.values, DV):
            numbers = [tensors[page[0]].at(0, h, page[1] + r, d) if page and page[1] + r < self.KEYS[page[0]] else NAN
                       for page in pages for h in range(HKV) for r in range(rows) for d in range(dim)]
            self.write(name, Tensor((len(pages), HKV, rows, dim), numbers))
        self.write("table", table, "<i4")
        self.write("lengths", Tensor((len(self.KEYS),), self.KEYS), "<i8")
        return width * rows, len(pages)

    PACKED = "--q-starts", "q_starts.npy", "--kv-starts", "kv_starts.npy"
    PAGED = "--q-starts", "q_starts.npy", "--block-table", "table.npy", "--kv-lengths", "lengths.npy"

    # ---------------------------------------------------------------------------------------------------- what it gives

    def test_packed_and_paged(self):
        self.write_packed_queries()
        for options, semantics in [([], {}), (["--causal"], {"causal": "end"}), (["--causal=top-left"], {"causal": 0}),
                                   (["--causal=1"], {"causal": 1}), (["--window=1,0"], {"window": (1, 0)}),
                                   (["--causal", "--window=2,0"], {"causal": "end", "window": (2, 0)}),
                                   (["--softcap=2", "--scale=0.5"], {"softcap": 2, "scale": 0.5}),
                                   (["--dropout=0.5", "--seed=3"], {"dropout": (0.5, 3)})]:
            wanted = self.wanted(**semantics)
            self.write_packed_keys()
            self.compute(*self.PACKED, *options)
            self.compare(wanted)
            for rows in 1, 3, 8:
                capacity, _ = self.write_pages(rows, seed=rows)
                self.compute(*self.PAGED, *options)
                self.compare(wanted, capacity)

    def test_packed_queries_alone(self):
        """Keys and values are (B, Hkv, Lk, D), padded."""
        self.write_packed_queries()
        most = max(self.KEYS)
        for name, tensors, dim in ("k", self.keys, D), ("v", self.values, DV):
            self.write(name, Tensor((4, HKV, most, dim), [t.at(0, h, j, d) if j < t.shape[2] else NAN for t in tensors
                                                          for h in range(HKV) for j in range(most) for d in range(dim)]))
        self.write("lengths", Tensor((4,), self.KEYS), "<i4")
        self.compute("--q-starts", "q_starts.npy", "--kv-lengths", "lengths.npy", "--causal")
        self.compare(self.wanted(causal="end"), most)

    def uniform_queries(self, *options, of=lambda b: {}, **semantics):
        """Queries are (B, Hq, Lq, D) as ever; the outputs, too."""
        self.QUERIES = [2, 2, 2, 2]
        self.queries = [randoms(1, HQ, 2, D, seed=f"u{b}") for b in range(4)]
        self.write("q", Tensor((4, HQ, 2, D), [n for q in self.queries for n in q.numbers]))
        self.compute(*options)
        for name, parts in zip(("out", "lse"), zip(*self.wanted(of, **semantics))):
            got, expected = self.output(name), [n for part in parts for n in part.numbers]
            self.assertEqual(got.shape, (4, HQ, 2, DV)[: 4 if name == "out" else 3])
            for a, b in zip(got.numbers, expected, strict=True):
                self.assertTrue(a == b or abs(a - b) <= 2e-6 * max(1, abs(b)), f"{name}: {a} is not {b}")

    def test_packed_and_paged_keys_alone(self):
        self.write_packed_keys()
        self.uniform_queries("--kv-starts", "kv_starts.npy", "--causal", causal="end")
        self.write_pages()
        self.uniform_queries("--block-table", "table.npy", "--kv-lengths", "lengths.npy", "--causal", causal="end")

    def test_whole_pages_need_no_lengths(self):
        self.KEYS = [4, 4, 4, 4]
        self.keys = [randoms(1, HKV, 4, D, seed=f"k{b}") for b in range(4)]
        self.values = [randoms(1, HKV, 4, DV, seed=f"v{b}") for b in range(4)]
        self.write_pages(2, spare=0)
        table = Tensor((4, 2), [n for n in read_i32(self.directory / "table.npy") if n >= 0])
        self.write("table", table, "<i8")
        self.uniform_queries("--block-table", "table.npy", "--causal", causal="end")

    def test_lengths_of_packed_keys(self):
        """Fewer keys than there are rows: positions count from the length."""
        self.write_packed_queries()
        self.write_packed_keys()
        own = [4, 0, 7, 0]
        self.write("lengths", Tensor((4,), own), "<i4")
        self.compute(*self.PACKED, "--kv-lengths", "lengths.npy", "--causal")
        self.compare(self.wanted(lambda b: {"lengths": Tensor((1,), [own[b]])}, causal="end"))
        by_query = Tensor((1, 6), [0, 2, 5, 7, 1, 0])
        self.write("lengths", by_query, "<i8")
        self.compute(*self.PACKED, "--kv-lengths", "lengths.npy", "--causal")
        at = self.q_starts.numbers
        self.compare(self.wanted(lambda b: {"lengths": Tensor((1, self.QUERIES[b]), by_query.numbers[at[b] : at[b + 1]])}, causal="end"))

    def test_positions_begins_and_ranges(self):
        self.write_packed_queries()
        self.write_packed_keys()
        positions, begins, alibi = [2, -5, 0, 2**31 - 1], [1, 9, 0, 2**31 - 1], Tensor((4,), [0.5, 0.25, 0.125, 0.0])
        ranges = Tensor((6, 2), [0, 2, 3, 3, -7, 2**31 - 1, 4, 6, 5, 2, -(2**31), 0])
        self.write("alibi", alibi)
        at = self.q_starts.numbers
        for descr in "<i4", "<i8", ">i8":
            self.write("positions", Tensor((4,), positions), descr)
            self.write("begins", Tensor((4,), begins), descr)
            self.write("ranges", ranges, descr)
            for options, of, semantics in [
                (["--positions", "positions.npy", "--causal"], lambda b: {"positions": Tensor((1,), [positions[b]])}, {"causal": 0}),
                (["--positions", "positions.npy", "--causal=40"], lambda b: {"positions": Tensor((1,), [positions[b]])}, {"causal": 0}),
                (["--positions", "positions.npy", "--window=1,1", "--alibi", "alibi.npy"],
                 lambda b: {"positions": Tensor((1,), [positions[b]])}, {"window": (1, 1), "alibi": alibi}),
                (["--kv-begins", "begins.npy", "--causal"], lambda b: {"begins": Tensor((1,), [begins[b]])}, {"causal": "end"}),
                (["--key-ranges", "ranges.npy"],
                 lambda b: {"ranges": Tensor((1, self.QUERIES[b], 2), ranges.numbers[2 * at[b] : 2 * at[b + 1]])}, {}),
            ]:
                self.compute(*self.PACKED, *options)
                self.compare(self.wanted(of, **semantics))

    def test_ranges_of_a_uniform_batch(self):
        ranges = Tensor((2, 3, 2), [0, 5, 1, 4, 2, 2, 3, 9, -1, 1, 4, 5])
        self.write("begins", Tensor((2,), [1, 3]), "<i4")
        self.write("positions", Tensor((2,), [3, 0]), "<i8")
        wanted = reference(self.q, self.k, self.v, ranges=ranges, begins=Tensor((2,), [1, 3]), positions=Tensor((2,), [3, 0]), causal=0)
        for shape in (2, 3, 2), (6, 2):
            self.write("ranges", Tensor(shape, ranges.numbers), "<i4")
            self.compute("--key-ranges", "ranges.npy", "--kv-begins", "begins.npy", "--positions", "positions.npy", "--causal")
            for name, expected in zip(("out", "lse", "weights"), wanted):
                got = self.output(name)
                self.assertEqual(got.shape, expected.shape)
                for a, b in zip(got.numbers, expected.numbers, strict=True):
                    self.assertTrue(a == b or abs(a - b) <= 2e-6 * max(1, abs(b)), f"{name}: {a} is not {b}")

    def test_masks_and_biases(self):
        """Of packed queries they are packed, or broadcast; by sequence there may be others."""
        self.write_packed_queries()
        self.write_packed_keys()
        at, most = self.q_starts.numbers, max(self.KEYS)
        for shape in (), (most,), (6, 1), (6, most), (HQ, 1, most), (1, HQ, 6, most), (4, 1, 1, most):
            bias = randoms(*shape, seed="bias")
            bias.numbers = [n if n < 1 else -math.inf for n in bias.numbers]
            mask = Tensor(shape, [n > -0.5 for n in randoms(*shape, seed="mask").numbers])
            self.write("bias", bias)
            self.write("mask", mask, "|b1")

            def own(tensor, b):
                shape = (1, HQ, self.QUERIES[b], self.KEYS[b])
                return Tensor(shape, [tensor.at(b, h, at[b] + i, j) for h in range(HQ) for i in range(shape[2]) for j in range(shape[3])])

            self.compute(*self.PACKED, "--bias", "bias.npy", "--mask", "mask.npy", "--causal")
            self.compare(self.wanted(lambda b: {"bias": own(bias, b), "mask": own(mask, b)}, causal="end"))

    def test_fewer_dimensions(self):
        self.write_packed_queries()
        self.write_packed_keys()
        self.compute(*self.PACKED, "--causal")
        whole = self.output()
        for name, tensors in ("q", self.queries), ("k", self.keys), ("v", self.values):
            packed = side_by_side(tensors)
            self.write(name, Tensor(packed.shape[1:], packed.numbers))
        self.compute(*self.PACKED, "--causal")
        self.assertEqual((self.output().shape, self.output().numbers), (whole.shape[1:], whole.numbers))

    def test_no_sequence_and_empty_ones(self):
        for queries, keys in ([], []), ([0, 0], [0, 0]), ([0, 0], [2, 1]), ([1, 2], [0, 0]):
            self.QUERIES, self.KEYS = queries, keys
            self.write("q_starts", starts_of(queries), "<i4")
            self.write("kv_starts", starts_of(keys), "<i4")
            self.write("q", randoms(1, HQ, sum(queries), D))
            self.write("k", randoms(1, HKV, sum(keys), D))
            self.write("v", randoms(1, HKV, sum(keys), DV))
            self.compute(*self.PACKED)
            self.assertEqual(self.output().shape, (1, HQ, sum(queries), DV))
            self.assertEqual(set(self.output().numbers) - {0.0}, set())
            self.assertEqual(set(self.output("lse").numbers) - {-math.inf}, set())

    def test_a_window_at_the_end_of_each_sequence(self):
        """A token each for caches of 8 and 4 keys: the second attends keys 1 to 3 of its own 4."""
        q, k, v = randoms(2, 1, 1, 4, seed="rag q"), randoms(2, 1, 8, 4, seed="rag k"), randoms(2, 1, 8, 4, seed="rag v")
        for name, tensor in ("q", q), ("k", k), ("v", v):
            self.write(name, tensor)
        self.write("lengths", Tensor((2,), [8, 4]), "<i8")
        self.compute("--kv-lengths", "lengths.npy", "--causal", "--window", "2,0")
        weights = self.output("weights")
        attended = [[j for j in range(8) if weights.at(b, 0, 0, j) != 0] for b in range(2)]
        self.assertEqual(attended, [[5, 6, 7], [1, 2, 3]])
        wanted = reference(q, k, v, lengths=Tensor((2,), [8, 4]), causal="end", window=(2, 0))[0]
        for a, b in zip(self.output().numbers, wanted.numbers, strict=True):
            self.assertAlmostEqual(a, b, delta=2e-6)

    def test_what_is_printed(self):
        self.write_packed_queries()
        self.write_packed_keys()
        pairs = HQ * sum(1 for q, k in zip(self.QUERIES, self.KEYS) for i in range(q) for j in range(k) if j <= i + k - q)
        lines = self.compute(*self.PACKED, "--causal", "--explain", "--time", "2", "--threads", "1").splitlines()
        self.assertEqual(len(lines), 4)
        self.assertRegex(lines[0], r"^plan: \w+__\w+ ")
        self.assertRegex(lines[1], r"^sequences: 4, each of 0 to 3 queries \(6 in all\) and 0 to 7 keys \(16 in all\); worth 1 thread$")
        self.assertTrue(lines[2].endswith(f", {pairs} attended pairs"), (pairs, lines[2]))
        self.assertRegex(lines[3], r"^attention: B 4, Hq 4, Hkv 2, Lq up to 3 \(6 in all\), Lk up to 7 \(16 in all\), D 6, Dv 7, f32, "
                                   r"kernel \w+; wrote out \(1, 4, 6, 7\) out.npy, lse \(1, 4, 6\) lse.npy, weights")
        plain = self.run_attend(*self.PACKED, "--explain")  # without weights keys may be split
        self.assertEqual((plain.returncode, plain.stderr, len(plain.stdout.splitlines())), (0, "", 3))
        capacity, pages = self.write_pages(3)
        lines = self.compute(*self.PAGED, "--explain", "--threads", "1").splitlines()
        self.assertIn("; worth 1 thread", lines[1])
        self.assertIn(", in pages of 3 rows;", lines[1])
        self.assertIn(f", Lk up to {capacity} (16 in all) in {pages} pages of 3 rows, D 6", lines[2])

    # ------------------------------------------------------------------------------------------------- what is refused

    def refuse(self, expected, *options):
        before = self.contents()
        result = self.run_attend(*options)
        self.assertEqual(result.returncode, 2, f"{options}: {result.stderr}")
        self.assertRegex(result.stderr, r"\Aattend: [^\n]+\n\Z")
        self.assertIn(expected, result.stderr)
        self.assertEqual(result.stdout, "")
        self.assertEqual(self.contents(), before)

    def test_starts_are_refused(self):
        self.write_packed_queries()
        self.write_packed_keys()
        for option, rows, of, others in (("--q-starts", 6, "q", ("--kv-starts", "kv_starts.npy")),
                                         ("--kv-starts", 16, "k", ("--q-starts", "q_starts.npy"))):
            for numbers, says in [([1, 2, 3, 4, rows], "element 0 is 1, expected 0, where the first sequence begins"),
                                  ([0, 3, 2, 4, rows], "element 2 is 2, expected 3 or more: starts do not fall"),
                                  ([0, 1, 2, 3, rows - 1], f"element 4 is {rows - 1}, expected {rows}, the rows of --{of}"),
                                  ([0, 1, 2, 3, rows + 1], f"element 4 is {rows + 1}, expected 0 to {rows}, the rows of --{of}"),
                                  ([0, -1, 2, 3, rows], f"element 1 is -1, expected 0 to {rows}"),
                                  ([0, 2**32, 2, 3, rows], f"element 1 is 4294967296, expected 0 to {rows}")]:
                self.write("bad", Tensor((5,), numbers), "<i8")
                self.refuse(f"{option} bad.npy: {says}", *others, option, "bad.npy")
            for shape in (), (0,), (1, 5):
                self.write("bad", Tensor(shape, [0] * product(shape)), "<i4")
                self.refuse(f"{option} bad.npy: field 'shape' is {shape}, expected (", *others, option, "bad.npy")
            self.write("bad", Tensor((5,), [0, 1, 2, 3, rows]), "<f4")
            self.refuse(f"{option} bad.npy: field 'descr' is float32, expected int32 or int64", *others, option, "bad.npy")
        self.write("bad", Tensor((4,), [0, 1, 2, 16]), "<i4")
        self.refuse("--kv-starts bad.npy: field 'shape' is (4,), expected (5,), one more than there are sequences",
                    "--q-starts", "q_starts.npy", "--kv-starts", "bad.npy")

    def test_tensors_that_are_not_packed(self):
        self.refuse("--q q.npy: field 'shape' is (2, 4, 3, 6), expected (1, Hq, rows of all, D), as there is --q-starts", *self.PACKED)
        self.write_packed_queries()
        self.refuse("--k k.npy: field 'shape' is (2, 2, 5, 6), expected (1, Hkv, rows of all, 6)", *self.PACKED)
        self.refuse("--k k.npy: field 'shape' is (2, 2, 5, 6), expected (4, Hkv, Lk, 6)", "--q-starts", "q_starts.npy")
        self.write_packed_keys()
        self.write("v", randoms(1, HKV, 15, DV))
        self.refuse("--v v.npy: field 'shape' is (1, 2, 15, 7), expected (1, 2, 16, Dv)", *self.PACKED)

    def test_tables_are_refused(self):
        self.write_packed_queries()
        capacity, pages = self.write_pages(3)
        table = Tensor((4, capacity // 3), list(read_i32(self.directory / "table.npy")))
        paged = "--q-starts", "q_starts.npy", "--kv-lengths", "lengths.npy", "--block-table", "bad.npy"
        width = table.shape[1]
        for index, number in ((0, 0), -1), ((2, 2), -1), ((2, 1), pages), ((0, 1), -2):
            bad = Tensor(table.shape, table.numbers)
            bad.numbers[index[0] * width + index[1]] = number
            self.write("bad", bad, "<i4")
            self.refuse(f"--block-table bad.npy: element {index} is {number}, expected 0 to {pages - 1}, the pages of --k: "
                        f"sequence {index[0]} has {self.KEYS[index[0]]} keys\n", *paged)
        self.write("bad", table, "<i4")
        self.refuse(f"--block-table bad.npy: element (0, 2) is -1, expected 0 to {pages - 1}, the pages of --k: sequence 0 has "
                    f"{capacity} keys; --kv-lengths (B) says how many it has of its own", "--q-starts", "q_starts.npy", "--block-table", "bad.npy")
        for shape in (3, width), (5, width), (4 * width,), (1, 4, width), ():
            self.write("bad", Tensor(shape, [0] * product(shape)), "<i4")
            self.refuse(f"--block-table bad.npy: field 'shape' is {shape}, expected (4, pages): a row for each sequence", *paged)
        self.write("bad", Tensor(table.shape, [2**31] + table.numbers[1:]), "<i8")
        self.refuse("--block-table bad.npy: element 0 is 2147483648, expected -2147483648 to 2147483647", *paged)
        self.write("bad", table, "<f4")
        self.refuse("--block-table bad.npy: field 'descr' is float32, expected int32 or int64", *paged)
        self.write("bad", table, "<i4")
        self.refuse("--kv-starts and --block-table: expected one of them", *paged, "--kv-starts", "kv_starts.npy")
        self.write("long", Tensor((4,), [1, 1, 1, capacity + 1]), "<i4")
        self.refuse(f"--kv-lengths long.npy: element 3 is {capacity + 1}, expected 0 to {capacity}, the number of keys",
                    *paged[:3], "long.npy", *paged[4:])

    def test_pages_are_refused(self):
        self.write_packed_queries()
        self.write_pages(3)
        shape = read_f32(self.directory / "k.npy").shape
        for name, bad, says in [("k", (shape[0], HKV, 3, 5), "expected (pages, Hkv, rows of a page, 6)"),
                                ("k", (HKV, 3, 6), "expected (pages, Hkv, rows of a page, 6)"),
                                ("k", (shape[0], HKV, 0, 6), "expected pages of at least one row"),
                                ("k", (shape[0], 3, 3, 6), "expected a number of heads that divides that of --q"),
                                ("v", (shape[0] - 1, HKV, 3, 7), f"expected ({shape[0]}, 2, 3, Dv)"),
                                ("v", (shape[0], HKV, 4, 7), f"expected ({shape[0]}, 2, 3, Dv)")]:
            self.write_pages(3)
            self.write(name, randoms(*bad))
            self.refuse(f"--{name} {name}.npy: field 'shape' is {bad}, {says}", *self.PAGED)
        # No element at all, so that the file can be written; so many rows in so many pages are what is too much.
        self.write("k", Tensor((0, HKV, 2**40, D), []))
        self.write("v", Tensor((0, HKV, 2**40, DV), []))
        self.refuse(f"--block-table table.npy: field 'shape' is (4, 4), expected at most 2147483647 keys of a sequence: pages of {2**40} rows", *self.PAGED)
        self.write("q", Tensor((1, HQ, 0, D), []))
        for table in (1, 2**40), (0, 2**40):
            self.write("q_starts", Tensor((table[0] + 1,), [0] * (table[0] + 1)), "<i4")
            self.directory.joinpath("table.npy").write_bytes(npy(Tensor((0,), []), "<i4", shape=table))
            self.refuse("--block-table table.npy: ", *self.PAGED[:4])

    def test_lengths_and_positions_are_refused(self):
        self.write_packed_queries()
        self.write_packed_keys()
        for option, numbers, says in [
            ("--kv-lengths", [5, 4, 7, 1], "element 3 is 1, expected 0 to 0, the rows that --kv-starts gives sequence 3"),
            ("--kv-lengths", [6, 4, 7, 0], "element 0 is 6, expected 0 to 5, the rows that --kv-starts gives sequence 0"),
            ("--kv-lengths", [8, 4, 7, 0], "element 0 is 8, expected 0 to 7, the number of keys"),
            ("--positions", [0, 0, 2**31, 0], "element 2 is 2147483648, expected -2147483648 to 2147483647"),
            ("--kv-begins", [0, -1, 0, 0], "element 1 is -1, expected 0 to 2147483647"),
            ("--kv-begins", [0, 2**40, 0, 0], "element 1 is 1099511627776, expected 0 to 2147483647"),
        ]:
            self.write("bad", Tensor((4,), numbers), "<i8")
            self.refuse(f"{option} bad.npy: {says}", *self.PACKED, option, "bad.npy")
        for option in "--positions", "--kv-begins":
            for shape in (), (3,), (4, 1), (1, 6):
                self.write("bad", Tensor(shape, [0] * product(shape)), "<i4")
                self.refuse(f"{option} bad.npy: field 'shape' is {shape}, expected (4,)", *self.PACKED, option, "bad.npy")
        for shape in (6,), (4, 6), (6, 1):
            self.write("bad", Tensor(shape, [0] * product(shape)), "<i4")
            self.refuse(f"--kv-lengths bad.npy: field 'shape' is {shape}, expected (4,), a length for each sequence, or (1, 6), "
                        "for each query", *self.PACKED, "--kv-lengths", "bad.npy")
        for shape in (6,), (2, 6), (5, 2), (6, 3), (4, 6, 2), (1, 6, 1):
            self.write("bad", Tensor(shape, [0] * product(shape)), "<i4")
            self.refuse(f"--key-ranges bad.npy: field 'shape' is {shape}, expected (1, 6, 2) or (6, 2): begin and end by query",
                        *self.PACKED, "--key-ranges", "bad.npy")
        self.write("bad", Tensor((6, 2), [0] * 11 + [2**40]), "<i8")
        self.refuse("--key-ranges bad.npy: element 11 is 1099511627776, expected -2147483648 to 2147483647", *self.PACKED,
                    "--key-ranges", "bad.npy")

    def test_masks_are_refused(self):
        self.write_packed_queries()
        self.write_packed_keys()
        for shape in (5,), (4, 7), (3, 1, 6, 7):
            self.write("bad", Tensor(shape, [True] * product(shape)), "|b1")
            self.refuse(f"--mask bad.npy: field 'shape' is {shape}, expected one that broadcasts to (4, 4, 6, 7)", *self.PACKED,
                        "--mask", "bad.npy")


def read_i32(path):
    data = path.read_bytes()
    end = 10 + int.from_bytes(data[8:10], "little")
    return memoryview(data[end:]).cast("i").tolist()


if __name__ == "__main__":
    unittest.main()
