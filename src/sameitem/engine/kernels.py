"""The loops of the search, compiled by numba on first use and kept in its cache.

Compiled functions release the GIL. They check nothing: `lists.py` does. `tests/engine/test_kernels.py` has the slow
clear version of each. All stands in this one file because numba compiles a cached function anew where its own file has
changed, whatever it calls.

The few operations that need vector instructions are written as LLVM code. LLVM turns them into AVX-512, AVX2 or SSSE3
instructions, whichever the processor has, or into plain loops; all give the same bits. The width is chosen when numba
compiles for the processor at hand, and numba's cache tells processors apart.

Codes lie in blocks of 32. A block of codes of `bits` bits has `bits / 16` rows of 64 bytes. Row r holds the groups
4r to 4r + 3, a group being four neighbouring bits, in 16 bytes each: the group of code s lies in byte
`2 (s % 8) + (s // 8) % 2` of the 16, in the low half of the byte for s < 16 and in the high half above. A table has the
same rows: for each group the 16 numbers 0..63 that its four bits may stand for. So one instruction looks up 64 groups,
and what four rows give is summed in bytes.

Source: Andre, Kermarrec, Le Scouarnec: Cache locality is not enough (VLDB 2015), for look-ups by byte shuffles.
"""

import logging
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types, uint64
from numba.extending import intrinsic

BLOCK = 32  # codes
GROUP_BITS = 4
ROW_BYTES = 64  # four groups of 32 codes
LARGEST = 63  # number in a table, so that four fit into a byte

_BYTE, _SHORT, _INT, _LONG, _FLOAT = (ir.IntType(8), ir.IntType(16), ir.IntType(32), ir.IntType(64), ir.FloatType())
_SHUFFLES = (  # feature of the processor, bytes at once, LLVM's name
    ("+avx512bw", 64, "llvm.x86.avx512.pshuf.b.512"),
    ("+avx2", 32, "llvm.x86.avx2.pshuf.b"),
    ("+ssse3", 16, "llvm.x86.ssse3.pshuf.b.128"),
)
_ROWS_SUMMED = 4  # rows whose numbers are summed in bytes: codes are a multiple of 64 bits long
NEARLY = np.float32(4e-5)  # more than twice what `near_distance` may err by, for distances up to 4
TOGETHER = 256  # queries whose lists are looked through in one go
ROOM = 1 << 25  # candidates of all queries that are looked through in one go, at most
RANKED_AT_ONCE = 32  # candidates between two looks at the k-th distance, at least
BLOCKS_AHEAD = 2  # that are asked for before their turn
PREFETCHED = 6  # rows that are asked for before their turn
NO_LIMIT = np.float32(np.finfo(np.float32).max)
_Code = Callable[[Any, ir.IRBuilder, Any, Any], Any]
_log = logging.getLogger(__name__)


def compiled(function: Callable[..., Any], *, fast: bool = False) -> Any:
    """Compile a function on its first call, without the GIL, and keep the result for other processes where one may.

    Args:
        function: what numba understands.
        fast: sums may be taken in another order: only where the last bit decides nothing that is shown.
    """
    try:
        return njit(nogil=True, cache=True, fastmath=fast)(function)
    except RuntimeError as error:  # neither the package's folder nor the user's may be written to
        _log.warning("compiled functions are not kept (%s); set NUMBA_CACHE_DIR to a folder that may be written", error)
        return njit(nogil=True, fastmath=fast)(function)


def _features(context: Any) -> list[str]:
    """Return the features of the processor that is compiled for, such as "+avx2"."""
    return str(context.codegen().magic_tuple()[2]).split(",")


def _at(builder: ir.IRBuilder, address: Any, offset: Any, kind: ir.Type) -> Any:
    return builder.inttoptr(builder.add(address, offset), ir.PointerType(kind))


def _long(number: int) -> ir.Constant:
    return ir.Constant(_LONG, number)


def _all(kind: ir.VectorType, number: float) -> ir.Constant:
    return ir.Constant(kind, [number] * kind.count)


def _spread(builder: ir.IRBuilder, value: Any, count: int) -> Any:
    """Return a vector with one value everywhere."""
    none = ir.Constant(ir.VectorType(value.type, count), ir.Undefined)
    first = builder.insert_element(none, value, ir.Constant(_INT, 0))
    return builder.shuffle_vector(first, none, ir.Constant(ir.VectorType(_INT, count), [0] * count))


def _part(builder: ir.IRBuilder, vector: Any, start: int, count: int) -> Any:
    none = ir.Constant(vector.type, ir.Undefined)
    places = ir.Constant(ir.VectorType(_INT, count), list(range(start, start + count)))
    return builder.shuffle_vector(vector, none, places)


def _joined(builder: ir.IRBuilder, first: Any, second: Any) -> Any:
    count = 2 * first.type.count
    return builder.shuffle_vector(first, second, ir.Constant(ir.VectorType(_INT, count), list(range(count))))


def _look_up(builder: ir.IRBuilder, name: str | None, table: Any, places: Any) -> Any:
    """Return for each byte the table's number at its place, 0..15, within the same 16 bytes."""
    kind = table.type
    if name is not None:
        module = builder.module
        shuffle = module.globals.get(name) or ir.Function(module, ir.FunctionType(kind, [kind, kind]), name)
        return builder.call(shuffle, [table, places])
    found = ir.Constant(kind, ir.Undefined)
    for lane in range(kind.count):
        at = ir.Constant(_INT, lane)
        place = builder.zext(builder.extract_element(places, at), _INT)
        found = builder.insert_element(found, builder.extract_element(table, place), at)
    return found


def _sums(builder: ir.IRBuilder, features: list[str], codes: Any, table: Any, rows: Any) -> Any:
    """Return <32 x i16>: for each code of a block the sum of its groups' numbers, below 65,536.

    Sixteen-bit sums of even bytes pick up the odd ones in their upper half; these are summed apart and taken off.
    """
    width, name = next(((width, name) for feature, width, name in _SHUFFLES if feature in features), (16, None))
    bytes_, shorts = ir.VectorType(_BYTE, width), ir.VectorType(_SHORT, width // 2)
    low, four, eight = _all(bytes_, 15), _all(shorts, 4), _all(shorts, 8)
    before = builder.block
    loop, done = (builder.append_basic_block("rows"), builder.append_basic_block("summed"))
    builder.branch(loop)
    builder.position_at_end(loop)
    row = builder.phi(_LONG)
    row.add_incoming(_long(0), before)
    kept = [builder.phi(shorts) for _ in range(4)]
    for total in kept:
        total.add_incoming(_all(shorts, 0), before)
    start = builder.mul(row, _long(ROW_BYTES))
    halves: list[list[Any]] = [[], []]  # what the low and the high halves of the bytes stand for, row by row
    for step in range(_ROWS_SUMMED * ROW_BYTES // width):
        offset = builder.add(start, _long(step * width))
        code, numbers = (builder.load(_at(builder, base, offset, bytes_), align=1) for base in (codes, table))
        upper = builder.bitcast(builder.lshr(builder.bitcast(code, shorts), four), bytes_)
        for found, half in zip(halves, (code, upper), strict=True):
            found.append(_look_up(builder, name, numbers, builder.and_(half, low)))
    totals = list(kept)
    for first in range(0, len(halves[0]), 4):
        for side, found in enumerate(halves):
            one, two, three, more = found[first : first + 4]
            part = builder.bitcast(builder.add(builder.add(one, two), builder.add(three, more)), shorts)
            totals[2 * side] = builder.add(totals[2 * side], part)
            totals[2 * side + 1] = builder.add(totals[2 * side + 1], builder.lshr(part, eight))
    following = builder.add(row, _long(_ROWS_SUMMED))
    row.add_incoming(following, builder.block)
    for total, value in zip(kept, totals, strict=True):
        total.add_incoming(value, builder.block)
    builder.cbranch(builder.icmp_signed("<", following, rows), loop, done)
    builder.position_at_end(done)
    for even in (0, 2):
        totals[even] = builder.sub(totals[even], builder.shl(totals[even + 1], eight))
    count = width // 2
    while count > 8:
        count //= 2
        totals = [builder.add(_part(builder, t, 0, count), _part(builder, t, count, count)) for t in totals]
    return _joined(builder, _joined(builder, *totals[:2]), _joined(builder, *totals[2:]))


@intrinsic
def block_scores(
    _typing: Any,
    codes: Any,
    table: Any,
    rows: Any,
    slopes: Any,
    offsets: Any,
    step: Any,
    least: Any,
    base: Any,
    limit: Any,
    out: Any,
) -> tuple[Any, _Code]:
    """Write 32 scores to `out` and return, as bits, which are at most `limit`.

    `score = base + (offset + slope * (sum * step + least))`, each operation rounded to float32 by itself. `codes`,
    `table`, `slopes`, `offsets` and `out` are addresses.
    """

    def code(context: Any, builder: ir.IRBuilder, _signature: Any, arguments: Any) -> Any:
        codes, table, rows, slopes, offsets, step, least, base, limit, out = arguments
        floats = ir.VectorType(_FLOAT, BLOCK)
        sums = _sums(builder, _features(context), codes, table, rows)
        value = builder.uitofp(builder.zext(sums, ir.VectorType(_INT, BLOCK)), floats)
        value = builder.fadd(builder.fmul(value, _spread(builder, step, BLOCK)), _spread(builder, least, BLOCK))
        slope, offset = (builder.load(_at(builder, a, _long(0), floats), align=4) for a in (slopes, offsets))
        value = builder.fadd(_spread(builder, base, BLOCK), builder.fadd(offset, builder.fmul(slope, value)))
        builder.store(value, _at(builder, out, _long(0), floats), align=4)
        return builder.bitcast(builder.fcmp_ordered("<=", value, _spread(builder, limit, BLOCK)), _INT)

    address, number = types.uint64, types.float32
    signature = types.uint32(address, address, types.int64, address, address, number, number, number, number, address)
    return signature, code


def _widened(builder: ir.IRBuilder, context: Any, halves: Any) -> Any:
    """Return 16 finite float16 at an address as float32; exact."""
    shorts, ints, kind = (ir.VectorType(one, 16) for one in (_SHORT, _INT, _FLOAT))
    stored = builder.load(_at(builder, halves, _long(0), shorts), align=2)
    if "+f16c" in _features(context):
        return builder.fpext(builder.bitcast(stored, ir.VectorType(ir.HalfType(), 16)), kind)
    whole = builder.zext(stored, ints)  # move exponent and fraction to where float32 has them, and correct by a product
    bits = builder.shl(builder.and_(whole, _all(ints, 0x7FFF)), _all(ints, 13))
    size = builder.fmul(builder.bitcast(bits, kind), _all(kind, 2.0**112))
    sign = builder.shl(builder.and_(whole, _all(ints, 0x8000)), _all(ints, 16))
    return builder.bitcast(builder.or_(builder.bitcast(size, ints), sign), kind)


@intrinsic
def widen(_typing: Any, halves: Any, floats: Any) -> tuple[Any, _Code]:
    """Write 16 finite float16 at one address as float32 at another; exact."""

    def code(context: Any, builder: ir.IRBuilder, _signature: Any, arguments: Any) -> Any:
        value = _widened(builder, context, arguments[0])
        builder.store(value, _at(builder, arguments[1], _long(0), value.type), align=4)
        return context.get_dummy_value()

    return types.void(types.uint64, types.uint64), code


@intrinsic
def group_numbers(_typing: Any, rotated: Any, per_step: Any, out: Any) -> tuple[Any, _Code]:
    """Write the 16 numbers of a group: `(|q0| + ... + |q3| + (plus or minus q0) + ...) * per_step`, to the nearest."""

    def code(context: Any, builder: ir.IRBuilder, _signature: Any, arguments: Any) -> Any:
        rotated, per_step, out = arguments
        kind = ir.VectorType(_FLOAT, 16)
        total = _all(kind, 0.0)
        for bit in range(GROUP_BITS):
            value = builder.load(_at(builder, rotated, _long(4 * bit), _FLOAT), align=4)
            size = builder.select(
                builder.fcmp_ordered("<", value, ir.Constant(_FLOAT, 0.0)), builder.fneg(value), value
            )
            signs = ir.Constant(kind, [1.0 if number >> bit & 1 else -1.0 for number in range(16)])
            signed = builder.fmul(signs, _spread(builder, value, 16))
            total = builder.fadd(total, builder.fadd(_spread(builder, size, 16), signed))
        scaled = builder.fadd(builder.fmul(total, _spread(builder, per_step, 16)), _all(kind, 0.5))
        most = _all(kind, float(LARGEST))
        scaled = builder.select(builder.fcmp_ordered("<", scaled, most), scaled, most)
        numbers = builder.fptoui(scaled, ir.VectorType(_BYTE, 16))
        builder.store(numbers, _at(builder, out, _long(0), numbers.type), align=1)
        return context.get_dummy_value()

    return types.void(types.uint64, types.float32, types.uint64), code


@intrinsic
def near_distance(_typing: Any, halves: Any, floats: Any, count: Any) -> tuple[Any, _Code]:
    """Return the squared distance of `count`, a multiple of 16, float16 and float32 at two addresses, to about 1e-6."""

    def code(context: Any, builder: ir.IRBuilder, _signature: Any, arguments: Any) -> Any:
        halves, floats, count = arguments
        kind = ir.VectorType(_FLOAT, 16)
        before, loop, done = (builder.block, builder.append_basic_block("near"), builder.append_basic_block("far"))
        builder.cbranch(builder.icmp_signed(">", count, _long(0)), loop, done)
        builder.position_at_end(loop)
        at, total = builder.phi(_LONG), builder.phi(kind)
        value = _widened(builder, context, builder.add(halves, builder.mul(at, _long(2))))
        query = builder.load(_at(builder, floats, builder.mul(at, _long(4)), kind), align=4)
        difference = builder.fsub(value, query)
        more = builder.fadd(total, builder.fmul(difference, difference, flags=["contract"]), flags=["contract"])
        following = builder.add(at, _long(16))
        for phi, first, then in ((at, _long(0), following), (total, _all(kind, 0.0), more)):
            phi.add_incoming(first, before)
            phi.add_incoming(then, builder.block)
        builder.cbranch(builder.icmp_signed("<", following, count), loop, done)
        builder.position_at_end(done)
        summed = builder.phi(kind)
        summed.add_incoming(_all(kind, 0.0), before)
        summed.add_incoming(more, loop)
        width = 16
        while width > 1:
            width //= 2
            summed = builder.fadd(_part(builder, summed, 0, width), _part(builder, summed, width, width))
        return builder.extract_element(summed, ir.Constant(_INT, 0))

    return types.float32(types.uint64, types.uint64, types.int64), code


@intrinsic
def half_at(_typing: Any, address: Any) -> tuple[Any, _Code]:
    """Return the bits of the float16 at an address."""

    def code(_context: Any, builder: ir.IRBuilder, _signature: Any, arguments: Any) -> Any:
        return builder.load(_at(builder, arguments[0], _long(0), _SHORT), align=2)

    return types.uint16(types.uint64), code


@intrinsic
def prefetch(_typing: Any, address: Any) -> tuple[Any, _Code]:
    """Ask for a cache line that is soon read."""

    def code(context: Any, builder: ir.IRBuilder, _signature: Any, arguments: Any) -> Any:
        pointer = ir.PointerType(_BYTE)
        name, module = "llvm.prefetch.p0", builder.module
        kind = ir.FunctionType(ir.VoidType(), [pointer, _INT, _INT, _INT])
        function = module.globals.get(name) or ir.Function(module, kind, name)
        read, keep, data = (ir.Constant(_INT, number) for number in (0, 3, 1))
        builder.call(function, [_at(builder, arguments[0], _long(0), _BYTE), read, keep, data])
        return context.get_dummy_value()

    return types.void(types.uint64), code


@intrinsic
def lowest_bit(_typing: Any, bits: Any) -> tuple[Any, _Code]:
    """Return the place of the lowest bit that is set in a uint32 that is not 0."""

    def code(_context: Any, builder: ir.IRBuilder, _signature: Any, arguments: Any) -> Any:
        return builder.zext(builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 1)), _LONG)

    return types.int64(types.uint32), code


@compiled
def fill_table(rotated: Any, table: Any) -> Any:
    """Fill the look-up table of a query: for each group of four bits the 16 sums of plus or minus its numbers.

    Args:
        rotated: (bits,) float32.
        table: (bits / 4, 16) uint8 to fill, 0..63.

    Returns:
        step, least: the product of the query and a code's signs is about `step * sum + least`, the sum being that of
        the code's groups.
    """
    groups = table.shape[0]
    widest, least = np.float32(0), np.float32(0)
    for group in range(groups):
        total = np.float32(0)
        for bit in range(4):
            total += abs(rotated[4 * group + bit])
        widest = max(widest, 2 * total)
        least -= total
    step = widest / np.float32(LARGEST)
    per_step = np.float32(LARGEST) / widest if widest > 0 else np.float32(0)
    for group in range(groups):
        group_numbers(
            uint64(rotated.ctypes.data) + uint64(16 * group), per_step, uint64(table.ctypes.data) + uint64(16 * group)
        )
    return step, least


@compiled
def fill_hamming_table(rotated: Any, table: Any) -> Any:
    """Fill a table that counts for each group in how many bits a code agrees with the signs of a query: 0..4.

    Returns:
        step, least: the product of the query's signs and a code's is `step * sum + least`, exactly.
    """
    for group in range(table.shape[0]):
        for number in range(16):
            agree = 0
            for bit in range(GROUP_BITS):
                agree += (rotated[GROUP_BITS * group + bit] > 0) == ((number >> bit) & 1)
            table[group, number] = agree
    return np.float32(2), np.float32(-len(rotated))


@compiled
def keep_smallest(scores: Any, rows: Any, count: int, kept: int) -> Any:
    """Move the `kept` smallest of the first `count` scores, with their rows, to the front; return the largest of them.

    Of equal scores the smaller rows are kept.
    """
    low, high = 0, count - 1
    place = kept - 1
    while low < high:
        middle = (low + high) // 2
        pivot, pivot_row = scores[middle], rows[middle]
        left, right = low, high
        while left <= right:
            while scores[left] < pivot or (scores[left] == pivot and rows[left] < pivot_row):
                left += 1
            while scores[right] > pivot or (scores[right] == pivot and rows[right] > pivot_row):
                right -= 1
            if left <= right:
                scores[left], scores[right] = scores[right], scores[left]
                rows[left], rows[right] = rows[right], rows[left]
                left += 1
                right -= 1
        if place <= right:
            high = right
        elif place >= left:
            low = left
        else:
            break
    return scores[place]


@compiled
def tighten(scores: Any, rows: Any, count: int, kept: int) -> Any:
    """Move at least the `kept` smallest of the first `count` scores, with their rows, to the front.

    Counting what falls into 256 equal parts of their range takes two passes, where ordering them takes many. Where that
    would leave more than half the arrays full, just the `kept` smallest stay.

    Returns:
        How many stay, and the largest of them.
    """
    lowest, highest = scores[0], scores[0]
    for place in range(1, count):
        lowest, highest = min(lowest, scores[place]), max(highest, scores[place])
    parts = np.zeros(256, np.int32)
    scale = np.float32(255.99) / max(highest - lowest, np.float32(1e-30))
    for place in range(count):
        parts[int((scores[place] - lowest) * scale) & 255] += 1
    last, below = 0, parts[0]
    while below < kept:
        last += 1
        below += parts[last]
    if 2 * below > len(scores):
        return kept, keep_smallest(scores, rows, count, kept)
    left, largest = 0, lowest
    for place in range(count):
        score = scores[place]
        if int((score - lowest) * scale) & 255 <= last:
            scores[left], rows[left] = score, rows[place]
            largest = max(largest, score)
            left += 1
    return left, largest


@compiled
def scan(
    codes: Any,
    first: int,
    last: int,
    table: Any,
    step: float,
    least: float,
    base: float,
    wanted: Any,
    found_scores: Any,
    found_rows: Any,
    count: int,
    kept: int,
    limit: float,
) -> tuple[int, float]:
    """Add the codes of blocks `first` to `last` that score at most the limit to what was found so far.

    When what was found fills its arrays, at least the `kept` smallest stay and the largest of them is the new limit.

    Args:
        codes: a `lists.Codes`.
        first: block to begin with.
        last: block to end before.
        table: (bits / 4, 16) of the query.
        step: of the table.
        least: of the table.
        base: added to each score.
        wanted: (rows / 8) uint8, bit i % 8 of byte i // 8 says whether row i may be found, none beyond; empty: all may.
        found_scores: (size,) float32, size at least `kept` + 64, better three times `kept`.
        found_rows: (size,) uint32.
        count: how many were found so far.
        kept: how many are wanted.
        limit: no score above it is of interest; finite, as empty slots score infinity.

    Returns:
        The new count and limit.
    """
    scores = np.empty(BLOCK, np.float32)
    out = uint64(scores.ctypes.data)
    rows = codes.blocks.shape[1]
    size = len(found_scores)
    code, slope = uint64(codes.blocks.ctypes.data), uint64(codes.slopes.ctypes.data)
    offset, numbers = uint64(codes.offsets.ctypes.data), uint64(table.ctypes.data)
    is_filtered, known = len(wanted) > 0, len(wanted)
    block_bytes, ahead = rows * ROW_BYTES, uint64(BLOCKS_AHEAD * BLOCK * 4)
    for block in range(first, last):
        at = uint64(block * (BLOCK * 4))
        if block + BLOCKS_AHEAD < last:  # a scan of memory then reaches 89 % of the speed of reading, not 71 %
            later = code + uint64((block + BLOCKS_AHEAD) * block_bytes)
            for line in range(0, block_bytes, 64):
                prefetch(later + uint64(line))
            for line in range(0, BLOCK * 4, 64):
                prefetch(slope + at + ahead + uint64(line))
                prefetch(offset + at + ahead + uint64(line))
        below = block_scores(
            code + uint64(block * rows * ROW_BYTES),
            numbers,
            rows,
            slope + at,
            offset + at,
            step,
            least,
            base,
            limit,
            out,
        )
        while below:
            slot = lowest_bit(below)
            below &= below - np.uint32(1)
            row = codes.ids[block, slot]
            if is_filtered:
                byte = row >> np.uint32(3)
                if byte >= known or not (wanted[byte] >> (row & np.uint32(7))) & 1:
                    continue
            found_scores[count], found_rows[count] = scores[slot], row
            count += 1
        if count > size - BLOCK:
            count, limit = tighten(found_scores, found_rows, count, kept)
    return count, limit


@partial(compiled, fast=True)
def _squared(one: Any, other: Any) -> Any:
    total = np.float32(0)
    for at in range(len(one)):
        difference = one[at] - other[at]
        total += difference * difference
    return total


@compiled
def _widen_rest(row: Any, start: int, dim: int, wide: Any) -> None:
    """Widen the numbers of a row at an address from `start` on, fewer than 16, without reading what lies behind it."""
    rest = np.zeros(16, np.uint16)
    for at in range(start, dim):
        rest[at - start] = half_at(row + uint64(2 * at))
    widen(uint64(rest.ctypes.data), uint64(wide.ctypes.data) + uint64(4 * start))


@compiled
def exact_distance(query: Any, row: Any, squares: Any, wide: Any) -> Any:
    """Return the squared L2 distance of a stored float16 row and a query: the bits of `distances.squared_distances`.

    Args:
        query: (dim,) float32.
        row: address of the stored row.
        squares: (dim,) float64, overwritten.
        wide: (dim rounded up to 16,) float32, overwritten.
    """
    dim = len(query)
    out = uint64(wide.ctypes.data)
    whole = dim // 16
    for part in range(whole):
        widen(row + uint64(32 * part), out + uint64(64 * part))
    if whole * 16 < dim:
        _widen_rest(row, whole * 16, dim, wide)
    for at in range(dim):
        difference = np.float64(wide[at] - query[at])
        squares[at] = difference * difference
    width = dim
    while width > 1:
        half = width // 2
        last = squares[width - 1]
        for at in range(half):
            squares[at] += squares[half + at]
        if width % 2:
            squares[0] += last
        width = half
    return squares[0]


@compiled
def exact_distances(query: Any, stored: Any, rows: Any, distances: Any) -> None:
    """Fill in the exact distances (n,) of some stored rows (n,) and a query; see `exact_distance`."""
    dim = len(query)
    squares, wide = np.empty(dim, np.float64), np.empty(dim + 16, np.float32)
    address, row_bytes = uint64(stored.ctypes.data), uint64(2 * dim)
    for place in range(len(rows)):
        if place + PREFETCHED < len(rows):
            ahead = address + uint64(rows[place + PREFETCHED]) * row_bytes
            for line in range(0, 2 * dim, 64):
                prefetch(ahead + uint64(line))
        distances[place] = exact_distance(query, address + uint64(rows[place]) * row_bytes, squares, wide)


@compiled
def choose_lists(
    rotated: Any,
    table: Any,
    step: float,
    least: float,
    centres: Any,
    codes: Any,
    wanted: Any,
    probes: int,
    nearest: Any,
    distances: Any,
) -> int:
    """Fill in the lists whose centres are nearest to a query, nearest first, and return how many.

    The centres' own codes are scanned like those of images; half as many again as wanted are then compared exactly.

    Args:
        rotated: (bits,) float32.
        table: of the query.
        step: of the table.
        least: of the table.
        centres: (lists, bits) float16 as uint16.
        codes: of the centres, see `scan`.
        wanted: lists that may be chosen, see `scan`.
        probes: how many.
        nearest: (3 * probes + 256,) uint32 to fill.
        distances: (3 * probes + 256,) float32 to fill: squared distances to the centres.
    """
    kept = min(probes + probes // 2 + 16, len(centres))
    count, _ = scan(
        codes, 0, len(codes.blocks), table, step, least, np.float32(0),
        wanted, distances, nearest, 0, kept, NO_LIMIT,
    )  # fmt: skip
    if count > kept:
        keep_smallest(distances, nearest, count, kept)
    count = min(count, kept)
    at, query, row_bytes = (uint64(centres.ctypes.data), uint64(rotated.ctypes.data), uint64(2 * len(rotated)))
    for place in range(count):
        distances[place] = near_distance(at + uint64(nearest[place]) * row_bytes, query, len(rotated))
    probes = min(probes, count)
    if count > probes:
        keep_smallest(distances, nearest, count, probes)
    order = np.argsort(distances[:probes])
    nearest[:probes], distances[:probes] = (nearest[:probes][order], distances[:probes][order])
    return probes


@compiled
def _address(stored: Any, late: Any, row: int) -> Any:
    """Return where a row lies: in `stored`, or in what was added behind it."""
    row_bytes = uint64(2 * stored.shape[1])
    if row < len(stored):
        return uint64(stored.ctypes.data) + uint64(row) * row_bytes
    return uint64(late.ctypes.data) + uint64(np.int64(row) - len(stored)) * row_bytes


@compiled
def rank(
    query: Any, stored: Any, late: Any, scores: Any, found: Any, count: int, k: int, slack: float, room: Any, space: Any
) -> int:
    """Compute the exact distances of those candidates that may be among the k nearest, and move them to the front.

    Candidates are taken in the order of their scores, some at once; no more are taken when the next one's score lies
    more than `slack` above the k-th distance so far.

    Args:
        query: (dim,) float32.
        stored: (rows, dim) float16 as uint16.
        late: (more, dim) float16 as uint16: the rows behind those of `stored`.
        scores: (count or more,) estimated distance of each candidate.
        found: (count or more,) row of each candidate; those that may be among the k nearest come to its front.
        count: how many candidates.
        k: how many are wanted.
        slack: by how much a score may be too large.
        room: (count or more,) float32 and uint32, overwritten, and float64: exact distances of the rows at the front of
            `found`.
        space: `squares` and `wide` of `exact_distance`.

    Returns:
        How many rows stand at the front, all of the k nearest candidates among them.
    """
    near, left, distances = room
    squares, wide = space
    dim = len(query)
    even, query_at = dim - dim % 16, uint64(query.ctypes.data)
    keys = np.empty(count, np.int64)  # order by score, then by row: the same for a query whatever stands beside it
    bits = scores[:count].view(np.int32)  # of a float32: they order as the scores do, but for the sign
    for place in range(count):
        key = np.int64(bits[place]) if bits[place] >= 0 else -np.int64(bits[place] & 0x7FFFFFFF)
        keys[place] = (key << 32) | np.int64(found[place])
    order = np.argsort(keys)
    done, furthest = 0, np.float32(np.inf)
    while done < count and scores[order[done]] <= furthest + slack:
        until = count if slack == np.inf else min(count, max(k, done + RANKED_AT_ONCE, done + done // 4))
        for place in range(done, until):
            if place + PREFETCHED < count:
                ahead = _address(stored, late, found[order[place + PREFETCHED]])
                for line in range(0, 2 * dim, 64):
                    prefetch(ahead + uint64(line))
            left[place] = found[order[place]]
            row = _address(stored, late, left[place])
            near[place] = near_distance(row, query_at, even)
            if even < dim:
                _widen_rest(row, even, dim, wide)
                near[place] += _squared(wide[even:dim], query[even:])
        done = until
        if done >= k:
            furthest = np.partition(near[:done], k - 1)[k - 1]
    front = 0
    for place in range(done):
        if near[place] <= furthest + NEARLY:
            found[front] = left[place]
            front += 1
    found[:front] = np.sort(found[:front])
    for place in range(front):
        distances[place] = exact_distance(query, _address(stored, late, found[place]), squares, wide)
    return front


@compiled
def search_lists(
    queries: Any,
    rotated: Any,
    centres: Any,
    centre_codes: Any,
    starts: Any,
    codes: Any,
    stored: Any,
    added: Any,
    is_hamming: bool,
    probes: int,
    candidates: int,
    slack: float,
    wanted_lists: Any,
    wanted: Any,
    rows_out: Any,
    distances_out: Any,
) -> None:
    """Search with each query in turn: its nearest lists, the best codes in them, their exact distances.

    Args:
        queries: (n, dim) float32 of unit length.
        rotated: (n, bits) float32.
        centres: (lists, bits) float16 as uint16.
        centre_codes: of the centres, see `scan`.
        starts: (lists + 1,) first block of each list.
        codes: of the images, see `scan`.
        stored: (rows, dim) float16 as uint16.
        added: a `lists.Added`.
        is_hamming: whether the codes are signs of the images themselves, compared with those of the query.
        probes: lists of a query.
        candidates: codes of a query that may be ranked.
        slack: see `rank`.
        wanted_lists: lists that may be looked through, see `scan`.
        wanted: see `scan`.
        rows_out: (n, k) int64 to fill, -1 where there are no more.
        distances_out: (n, k) float64 to fill, squared L2, ascending, ties by row.
    """
    bits, k = rotated.shape[1], rows_out.shape[1]
    size = 3 * candidates + 256
    together = max(1, min(len(queries), TOGETHER, ROOM // size))
    tables = np.empty((together * bits // 4 + 4, 16), np.uint8)
    shift = (64 - tables.ctypes.data % 64) // 16 % 4  # so that they begin at a multiple of 64
    tables = tables[shift : shift + together * bits // 4].reshape(together, bits // 4, 16)
    steps, limits = np.empty((together, 2), np.float32), np.empty(together, np.float32)
    chosen, counts = np.empty(together, np.int64), np.empty(together, np.int64)
    nearest = np.empty((together, 3 * probes + 256), np.uint32)
    to_centres = np.empty((together, 3 * probes + 256), np.float32)
    scores, found = (np.empty((together, size), np.float32), np.empty((together, size), np.uint32))
    pairs = np.empty((together * probes, 2), np.int32)
    heads = np.empty(len(starts), np.int32)
    room = (np.empty(size, np.float32), np.empty(size, np.uint32), np.empty(size, np.float64))
    space = (np.empty(queries.shape[1], np.float64), np.empty(queries.shape[1] + 16, np.float32))
    for start in range(0, len(queries), together):
        group = min(together, len(queries) - start)
        for query in range(group):
            steps[query, 0], steps[query, 1] = fill_table(rotated[start + query], tables[query])
            chosen[query] = choose_lists(
                rotated[start + query], tables[query], steps[query, 0], steps[query, 1], centres,
                centre_codes, wanted_lists, probes, nearest[query], to_centres[query],
            )  # fmt: skip
            counts[query], limits[query] = 0, NO_LIMIT
            if is_hamming:
                steps[query, 0], steps[query, 1] = fill_hamming_table(rotated[start + query], tables[query])
                to_centres[query] = 0
        place = 0
        while place < probes:  # the nearest list of each first: what is found there keeps most of the others out
            until = min(probes, 4 * place + 1)
            count = by_list(nearest[:group], chosen[:group], place, until, heads, pairs)
            for pair in range(count):
                query, probe = pairs[pair]
                number = nearest[query, probe]
                counts[query], limits[query] = scan(
                    codes, starts[number], starts[number + 1], tables[query],
                    steps[query, 0], steps[query, 1], to_centres[query, probe], wanted,
                    scores[query], found[query], counts[query], candidates, limits[query],
                )  # fmt: skip
                block = added.newest[number] if len(added.newest) else -1
                while block >= 0:
                    counts[query], limits[query] = scan(
                        added.codes, block, block + 1, tables[query],
                        steps[query, 0], steps[query, 1], to_centres[query, probe], wanted,
                        scores[query], found[query], counts[query], candidates, limits[query],
                    )  # fmt: skip
                    block = added.before[block]
            place = until
        for query in range(group):
            count = counts[query]
            if count > candidates:
                keep_smallest(scores[query], found[query], count, candidates)
                count = candidates
            row = start + query
            count = rank(queries[row], stored, added.halves, scores[query], found[query], count, k, slack, room, space)
            order_by_distance(found[query], room[2], count, rows_out[row], distances_out[row])


@compiled
def by_list(nearest: Any, chosen: Any, first: int, last: int, heads: Any, pairs: Any) -> Any:
    """Write down which query looks through which list, those of a list side by side: its codes are read once for all.

    Args:
        nearest: (queries, most) list of each probe.
        chosen: (queries,) how many probes each has.
        first: probe to begin with.
        last: probe to end before.
        heads: (lists + 1,) overwritten.
        pairs: (queries * (last - first) or more, 2) query and probe, to fill.

    Returns:
        How many pairs there are.
    """
    if len(nearest) == 1:
        for probe in range(first, min(last, chosen[0])):
            pairs[probe - first, 0], pairs[probe - first, 1] = 0, probe
        return max(0, min(last, chosen[0]) - first)
    heads[:] = 0
    for query in range(len(nearest)):
        for probe in range(first, min(last, chosen[query])):
            heads[nearest[query, probe] + 1] += 1
    for number in range(1, len(heads)):
        heads[number] += heads[number - 1]
    for query in range(len(nearest)):
        for probe in range(first, min(last, chosen[query])):
            number = nearest[query, probe]
            pairs[heads[number], 0], pairs[heads[number], 1] = query, probe
            heads[number] += 1
    return heads[len(heads) - 2]


@compiled
def order_by_distance(found: Any, distances: Any, count: int, rows_out: Any, distances_out: Any) -> None:
    """Write the first rows and distances, nearest first, equals as they stand; -1 and infinity behind the last."""
    order = np.argsort(distances[:count], kind="mergesort")
    k = len(rows_out)
    for place in range(min(k, count)):
        rows_out[place], distances_out[place] = found[order[place]], distances[order[place]]
    for place in range(count, k):
        rows_out[place], distances_out[place] = -1, np.inf


@compiled
def nearest_centres(
    rotated: Any,
    centres: Any,
    codes: Any,
    compared: int,
    found: Any,
) -> None:
    """Write down the nearest centre of each row, of equally near ones the first.

    Args:
        rotated: (rows, bits) float32.
        centres: (lists, bits) float16 as uint16.
        codes: of the centres, see `scan`.
        compared: centres that are compared exactly, at least 17.
        found: (rows,) int32 to fill.
    """
    probes = (compared - 16) * 2 // 3  # `choose_lists` compares half as many again and 16
    tables = np.empty((rotated.shape[1] // 4 + 4, 16), np.uint8)
    shift = (64 - tables.ctypes.data % 64) // 16 % 4  # so that it begins at a multiple of 64
    table = tables[shift : shift + rotated.shape[1] // 4]
    everything = np.empty(0, np.uint8)
    chosen, distances = np.empty(3 * probes + 256, np.uint32), np.empty(3 * probes + 256, np.float32)
    for row in range(len(rotated)):
        step, least = fill_table(rotated[row], table)
        count = choose_lists(rotated[row], table, step, least, centres, codes, everything, probes, chosen, distances)
        best = chosen[0]
        for place in range(1, count):
            if distances[place] > distances[0]:
                break
            best = min(best, chosen[place])
        found[row] = best


@compiled
def fill_blocks(
    start: int, starts: Any, ends: Any, order: Any, packed: Any, slopes: Any, offsets: Any, codes: Any
) -> None:
    """Fill blocks of codes that follow one another, from block `start` on.

    Args:
        start: number of the first block to fill.
        starts: (lists + 1,) first block of each list.
        ends: (lists + 1,) place of each list's first row in `order`.
        order: (rows,) uint32, the rows of a list side by side.
        packed: (rows, bits / 8) uint8, the lowest bit first.
        slopes: (rows,) float32.
        offsets: (rows,) float32.
        codes: a `lists.Codes` without codes, to fill.
    """
    number = np.searchsorted(starts, start, side="right") - 1
    for block in range(len(codes.blocks)):
        while starts[number + 1] <= start + block:
            number += 1
        first = ends[number] + (start + block - starts[number]) * BLOCK
        for slot in range(min(BLOCK, ends[number + 1] - first)):
            row = order[first + slot]
            codes.slopes[block, slot], codes.offsets[block, slot] = slopes[row], offsets[row]
            codes.ids[block, slot] = row
            place, shift = 2 * (slot % 8) + slot // 8 % 2, np.uint8(0 if slot < BLOCK // 2 else 4)
            for byte in range(packed.shape[1]):
                pair, at = packed[row, byte], byte % 2 * 32 + place
                codes.blocks[block, byte // 2, at] |= (pair & np.uint8(15)) << shift
                codes.blocks[block, byte // 2, at + 16] |= (pair >> np.uint8(4)) << shift


@compiled
def keep_nearest(
    products: Any, squares: Any, first: int, own: Any, kept: int, scores: Any, rows: Any, counts: Any, limits: Any
) -> None:
    """Add those of some rows that may be among the `kept` nearest of each query to what was found so far.

    A score is the square of a row less twice its product with the query, in the numbers that come in.

    Args:
        products: (queries, n) of each query and row.
        squares: (n,) of each row.
        first: the first of the rows, which stand side by side.
        own: (queries,) the row that is left out, -1 = none.
        kept: how many are wanted.
        scores: (queries, more than kept) of what was found.
        rows: int64, as `scores`.
        counts: (queries,) how many were found.
        limits: (queries,) no score above it is of interest.
    """
    step = 64
    for query in range(len(products)):
        count, limit, left_out = counts[query], limits[query], own[query] - first
        for start in range(0, len(squares), step):
            until = min(start + step, len(squares))
            below = 0
            for at in range(start, until):  # nothing but this, so that it becomes vector code
                below += squares[at] - (products[query, at] + products[query, at]) <= limit
            if below == 0:
                continue
            for at in range(start, until):
                score = squares[at] - (products[query, at] + products[query, at])
                if score > limit or at == left_out:
                    continue
                scores[query, count], rows[query, count] = score, first + at
                count += 1
                if count == scores.shape[1]:
                    limit = keep_smallest(scores[query], rows[query], count, kept)
                    count = kept
        counts[query], limits[query] = count, limit
