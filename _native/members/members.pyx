"""Member, and iterators that make members and names of columns with little else.

A member is filled from C, without a call of Python's; its name is an object slot,
which the interpreter reads as fast as that of a class with `__slots__`.
"""

cimport cython
from cpython.number cimport PyNumber_Index
from cpython.object cimport PyObject
from libc.stdint cimport int64_t, uint8_t, uint32_t

import dataclasses

cdef extern from "Python.h":
    PyObject* new_name "PyUnicode_DecodeUTF8"(
        const char*, Py_ssize_t, const char*
    ) except NULL
    object PyUnicode_DecodeUTF8(const char*, Py_ssize_t, const char*)
    Py_ssize_t Py_REFCNT(PyObject*)
    void Py_INCREF(PyObject*)
    void Py_XDECREF(PyObject*)
    ctypedef struct PyTypeObject:
        pass

cdef extern from "structmember.h":
    enum:
        T_OBJECT_EX
        READONLY
    struct PyMemberDef:
        const char* name
        int type
        Py_ssize_t offset
        int flags
        const char* doc
    object PyDescr_NewMember(PyTypeObject*, PyMemberDef*)

FIELDS = dataclasses.make_dataclass(
    "Member",
    [
        ("name", "str"),
        ("offset_start", "int"),
        ("offset_end", "int"),
        ("media_type", "str | None", None),
        ("width", "int | None", None),
        ("height", "int | None", None),
        ("crc32c", "int | None", None),
        ("mtime", "int | None", None),
    ],
).__dataclass_fields__

cdef enum known_fact:
    KNOWN_WIDTH = 1
    KNOWN_HEIGHT = 2
    KNOWN_CRC32C = 4
    KNOWN_MTIME = 8


@cython.final
cdef class Member:
    """One file in a blob.

    Like a frozen dataclass, it can't be changed, and it is compared by value.

    Attributes:
        name: Name in the tar; bytes that are not UTF-8 become surrogates (PEP 383).
        offset_start: The payload's first byte, from the start of the blob.
        offset_end: One past its last byte.
        media_type: Media type of the payload, recognised by its content, such as
            "image/jpeg"; None if unknown.
        width: Width in pixels of the image as it is shown (EXIF orientation applied);
            None if unknown.
        height: Height in pixels of the image as it is shown; None if unknown.
        crc32c: The payload's CRC-32C; None if it was not computed.
        mtime: Modification time in the tar's header, in seconds since 1970 UTC;
            None if it is 0 or was not recorded.
    """

    cdef PyObject* held_name       # the slot `name`, a str
    cdef readonly int64_t offset_start
    cdef readonly int64_t offset_end
    cdef readonly str media_type
    cdef uint8_t known             # which of these are
    cdef int64_t known_width
    cdef int64_t known_height
    cdef int64_t known_crc32c
    cdef int64_t known_mtime

    __module__ = "blobpack.model"
    __match_args__ = tuple(FIELDS)
    __dataclass_fields__ = FIELDS

    def __init__(
        self,
        str name not None,
        offset_start,
        offset_end,
        str media_type=None,
        width=None,
        height=None,
        crc32c=None,
        mtime=None,
    ):
        self.offset_start = PyNumber_Index(offset_start)
        self.offset_end = PyNumber_Index(offset_end)
        if not 0 <= self.offset_start <= self.offset_end:
            raise ValueError(
                f"{name!r} has offsets {offset_start} to {offset_end}, "
                "expected 0 ≤ offset_start ≤ offset_end"
            )
        self.media_type = media_type
        if width is not None:
            self.known |= KNOWN_WIDTH
            self.known_width = PyNumber_Index(width)
        if height is not None:
            self.known |= KNOWN_HEIGHT
            self.known_height = PyNumber_Index(height)
        if crc32c is not None:
            self.known |= KNOWN_CRC32C
            self.known_crc32c = PyNumber_Index(crc32c)
        if mtime is not None:
            self.known |= KNOWN_MTIME
            self.known_mtime = PyNumber_Index(mtime)
        Py_INCREF(<PyObject*> name)
        self.hold(<PyObject*> name)

    def __dealloc__(self):
        Py_XDECREF(self.held_name)

    cdef void hold(self, PyObject* name) noexcept:
        """Hold a name, whose reference it takes over, in place of the last."""
        cdef PyObject* before = self.held_name
        self.held_name = name
        Py_XDECREF(before)

    def __setattr__(self, name, value):
        raise dataclasses.FrozenInstanceError(f"cannot assign to field {name!r}")

    def __delattr__(self, name):
        raise dataclasses.FrozenInstanceError(f"cannot delete field {name!r}")

    @property
    def width(self):
        return self.known_width if self.known & KNOWN_WIDTH else None

    @property
    def height(self):
        return self.known_height if self.known & KNOWN_HEIGHT else None

    @property
    def crc32c(self):
        return self.known_crc32c if self.known & KNOWN_CRC32C else None

    @property
    def mtime(self):
        return self.known_mtime if self.known & KNOWN_MTIME else None

    @property
    def size(self):
        """The payload's bytes."""
        return self.offset_end - self.offset_start

    cdef tuple values(self):
        return (
            (<object> self).name,
            self.offset_start,
            self.offset_end,
            self.media_type,
            self.width,
            self.height,
            self.crc32c,
            self.mtime,
        )

    def __eq__(self, other):
        if not isinstance(other, Member):
            return NotImplemented
        return self.values() == (<Member> other).values()

    def __hash__(self):
        return hash(self.values())

    def __repr__(self):
        listed = zip(FIELDS, self.values(), strict=True)
        return f"Member({', '.join([f'{name}={value!r}' for name, value in listed])})"

    def __reduce__(self):
        return Member, self.values()

    def __replace__(self, **changes):
        return dataclasses.replace(self, **changes)


cdef PyMemberDef name_slot


cdef int show_name() except -1:
    """Make the held name an attribute, as `__slots__` does."""
    cdef Member model = Member("", 0, 0)
    name_slot.name = b"name"
    name_slot.type = T_OBJECT_EX
    name_slot.offset = <char*> &model.held_name - <char*> <PyObject*> model
    name_slot.flags = READONLY
    Member.name = PyDescr_NewMember(<PyTypeObject*> <PyObject*> Member, &name_slot)
    return 0


show_name()


cdef class PackedNames:
    """Rows of packed names, those that a mask keeps, one after the other."""

    cdef const unsigned char[::1] names
    cdef const int64_t[::1] name_bounds
    cdef const uint8_t[::1] mask   # None keeps all
    cdef int64_t next              # the row to look at

    def __cinit__(
        self,
        const unsigned char[::1] names not None,
        const int64_t[::1] name_bounds not None,
        *columns,
        const uint8_t[::1] mask=None,
        **options,
    ):
        if mask is not None and mask.shape[0] != name_bounds.shape[0] - 1:
            raise ValueError(
                f"a mask of {mask.shape[0]} for {name_bounds.shape[0] - 1} rows"
            )
        self.names = names
        self.name_bounds = name_bounds
        self.mask = mask

    cdef inline int64_t next_row(self) noexcept:
        """Step to the next row that is kept; -1 behind the last one."""
        cdef int64_t row = self.next, count = self.name_bounds.shape[0] - 1
        if self.mask is not None:
            while row < count and not self.mask[row]:
                row += 1
        if row >= count:
            self.next = count
            return -1
        self.next = row + 1
        return row

    cdef inline const char* name_at(self, int64_t row) noexcept:
        if self.names.shape[0] == 0:
            return b""
        return <const char*> &self.names[0] + self.name_bounds[row]

    cdef inline int64_t length_of(self, int64_t row) noexcept:
        return self.name_bounds[row + 1] - self.name_bounds[row]

    @property
    def row(self):
        """The row last come to; -1 before the first."""
        return self.next - 1

    def __iter__(self):
        return self


@cython.final
cdef class NameIterator(PackedNames):
    """Iterate over names as str."""

    def __next__(self):
        cdef int64_t row = self.next_row()
        if row < 0:
            raise StopIteration
        return PyUnicode_DecodeUTF8(
            self.name_at(row), self.length_of(row), "surrogateescape"
        )


@cython.final
cdef class MemberIterator(PackedNames):
    """Iterate over members.

    Columns that were not taken are None. With `reuse`, a member that nobody kept is
    filled anew for a later row, which spares making it: for a loop that only asks.
    """

    cdef const int64_t[::1] offset_start
    cdef const int64_t[::1] offset_end
    cdef const uint8_t[::1] media_type
    cdef const uint32_t[::1] width
    cdef const uint32_t[::1] height
    cdef const uint32_t[::1] crc32c
    cdef const int64_t[::1] mtime
    cdef tuple media_types
    cdef bint reuse
    # the last but one is the first that a loop's variable has let go
    cdef Member last
    cdef Member last_but_one

    def __cinit__(
        self,
        const unsigned char[::1] names not None,
        const int64_t[::1] name_bounds not None,
        const int64_t[::1] offset_start not None,
        const int64_t[::1] offset_end not None,
        const uint8_t[::1] media_type,
        const uint32_t[::1] width,
        const uint32_t[::1] height,
        const uint32_t[::1] crc32c,
        const int64_t[::1] mtime,
        tuple media_types not None,
        *,
        const uint8_t[::1] mask=None,
        bint reuse=False,
    ):
        self.offset_start = offset_start
        self.offset_end = offset_end
        self.media_type = media_type
        self.width = width
        self.height = height
        self.crc32c = crc32c
        self.mtime = mtime
        self.media_types = media_types
        self.reuse = reuse

    cdef Member blank(self):
        """Make a member, or take one back that nobody else holds."""
        cdef Member member
        if not self.reuse:
            return Member.__new__(Member)
        member = self.last_but_one
        if member is None or Py_REFCNT(<PyObject*> member) > 2:  # held here twice
            member = Member.__new__(Member)
        self.last_but_one = self.last
        self.last = member
        return member

    def __next__(self):
        cdef int64_t row = self.next_row()
        cdef uint8_t known = 0
        cdef Member member
        if row < 0:
            raise StopIteration
        member = self.blank()
        member.hold(
            new_name(self.name_at(row), self.length_of(row), "surrogateescape")
        )
        member.offset_start = self.offset_start[row]
        member.offset_end = self.offset_end[row]
        if self.media_type is not None:
            member.media_type = self.media_type_of(self.media_type[row])
        if self.width is not None and self.width[row]:
            known |= KNOWN_WIDTH
            member.known_width = self.width[row]
        if self.height is not None and self.height[row]:
            known |= KNOWN_HEIGHT
            member.known_height = self.height[row]
        if self.crc32c is not None:
            known |= KNOWN_CRC32C
            member.known_crc32c = self.crc32c[row]
        if self.mtime is not None and self.mtime[row]:
            known |= KNOWN_MTIME
            member.known_mtime = self.mtime[row]
        member.known = known
        return member

    cdef inline str media_type_of(self, uint8_t code):
        """Name a media type; 0, and a code of a later version, are unknown."""
        return self.media_types[code] if 0 < code < len(self.media_types) else None
