"""Decode a group of JPEGs by simplejpeg, and turn them.

Strategy: simplejpeg gives up the GIL while it decodes, and threads that want it back
wait for each other. So headers are read and arrays made for the whole group first.
"""

from libc.stdint cimport int64_t
from libc.stdlib cimport free, malloc

from decode.frame cimport frame, frame_of
from decode.turn cimport BEHIND, turn
from images.jpeg cimport jpeg_sides
from images.payload cimport peek, peek_at

cdef extern from "Python.h":
    bint PyBytes_Check(object)
    char* PyBytes_AsString(object) except NULL
    Py_ssize_t PyBytes_Size(object) except -1

cdef enum:
    # libjpeg-turbo writes rows that begin at a multiple of 16 or 32 past the caches,
    # which takes a tenth more time. malloc's memory begins at a multiple of 16.
    SHIFT = 8
    # A JPEG consists of blocks of this many pixels on each side.
    BLOCK_SIDE = 8
    # copying fewer bytes takes less time than getting the GIL back
    RELEASED_BYTES = 65536
    # A block of 8 x 8 grey pixels, 192 bytes of RGB, takes at least a bit. So a header
    # that claims more than that is damaged, and must not take the memory of a group.
    EXPANSION_MAX = 1536

cdef struct job:
    int64_t height                 # as decoded, not yet turned
    int64_t width
    int channels                   # 0: Pillow must decode it
    int orientation
    bint is_reduced
    bint is_copied                 # decoded elsewhere, and then copied, turned or not


cdef class JpegDecoder:
    """Decodes JPEGs to arrays of one form.

    Args:
        decode: simplejpeg.decode_jpeg.
        ndarray, empty, dtype: NumPy's class, its function, and its type of a byte.
        from_colour, from_grey: Channels of the array for a colour and a grey JPEG; 0:
            Pillow must decode it.
        turns: Whether images are turned as their EXIF or XMP orientation demands.
        height, width: What is wanted, as shown: the image is reduced by 2, 4 or 8 as
            long as it remains at least as large. 0: it is not reduced.
    """

    cdef object decode_jpeg, ndarray, empty, dtype
    cdef int from_colour, from_grey
    cdef bint turns
    cdef int64_t height, width

    def __cinit__(
        self, decode, ndarray, empty, dtype, *, int from_colour, int from_grey,
        bint turns, int64_t height=0, int64_t width=0,
    ):
        self.decode_jpeg = decode
        self.ndarray, self.empty, self.dtype = ndarray, empty, dtype
        self.from_colour, self.from_grey = from_colour, from_grey
        self.turns = turns
        self.height, self.width = height, width

    def decode(
        self, list payloads not None, list outs=None, *, bint copies=False,
        int64_t pixels_max=-1,
    ):
        """Decode those that simplejpeg decodes as Pillow does.

        Args:
            payloads: Images of any format, as bytes.
            outs: An array for each image, all of one shape, contiguous and of bytes. An
                image of that shape is decoded into it. The contents of an array that is
                not returned are undefined.
            copies: Whether images are decoded elsewhere and copied to `outs`.
            pixels_max: Pillow must decode an image with more pixels; -1: no limit.

        Returns:
            Pixels of each image, (height, width, 3) or (height, width); None: Pillow
            must decode it.
        """
        cdef Py_ssize_t count = len(payloads), i
        cdef list arrays = []
        cdef job* jobs = <job*> malloc(max(count, <Py_ssize_t> 1) * sizeof(job))
        cdef object out_shape = outs[0].shape if outs else None
        cdef object shape
        if jobs == NULL:
            raise MemoryError
        try:
            for i in range(count):
                jobs[i] = self.plan(payloads[i], pixels_max)
                if jobs[i].channels == 0:
                    arrays.append(None)
                    continue
                jobs[i].is_copied = jobs[i].orientation != 1
                shape = shown_shape(&jobs[i])
                if shape == out_shape:
                    jobs[i].is_copied |= copies
                    arrays.append(outs[i])
                else:
                    arrays.append(self.new_array(shape, &jobs[i]))
            for i in range(count):
                if jobs[i].channels and not self.fill(
                    arrays[i], payloads[i], &jobs[i]
                ):
                    arrays[i] = None
            return arrays
        finally:
            free(jobs)

    cdef job plan(self, object payload, int64_t pixels_max) except *:
        """Find out how an image is decoded."""
        cdef job planned
        cdef frame stored
        cdef peek image
        cdef const unsigned char* bytes
        cdef int64_t size
        planned.channels = 0
        if not PyBytes_Check(payload):
            return planned
        bytes = <const unsigned char*> PyBytes_AsString(payload)
        size = PyBytes_Size(payload)
        stored = frame_of(bytes, size)
        if 0 <= pixels_max < stored.height * stored.width:
            return planned
        if 3 * stored.height * stored.width > EXPANSION_MAX * size:
            return planned
        planned.orientation = 1
        if self.turns and stored.components:
            peek_at(&image, bytes, size, size)
            jpeg_sides(&image, &planned.orientation)
        planned.height, planned.width = stored.height, stored.width
        planned.is_reduced = False
        if planned.orientation and self.reduce(&planned):
            if stored.components:
                planned.channels = (
                    self.from_grey if stored.components == 1 else self.from_colour
                )
        return planned

    cdef bint reduce(self, job* planned) noexcept:
        """Choose the scale of Pillow's `draft`; return False if simplejpeg can't."""
        cdef int64_t height = self.height, width = self.width
        cdef int scale = 8
        if height == 0:
            return True
        if planned.orientation > 4:
            height, width = width, height
        while scale > 1 and (
            planned.height < scale * height or planned.width < scale * width
        ):
            scale //= 2
        if scale == 1:
            return True
        # simplejpeg takes the smallest of all eighths that is at least as large as
        # asked. In an image smaller than a block, two of them may have one size.
        if max(planned.height, planned.width) < BLOCK_SIDE:
            return False
        planned.height = (planned.height + scale - 1) // scale
        planned.width = (planned.width + scale - 1) // scale
        planned.is_reduced = True
        return True

    cdef object new_array(self, object shape, const job* planned):
        cdef int64_t size = planned.height * planned.width * planned.channels
        return self.ndarray(
            shape, self.dtype, self.empty(SHIFT + size + BEHIND, self.dtype), SHIFT
        )

    cdef bint fill(self, object array, object payload, const job* planned) except -1:
        """Decode an image into an array; return False if Pillow must decode it."""
        cdef object stored = array, decoded
        cdef object shape = (planned.height, planned.width, planned.channels)
        if planned.is_copied:
            stored = self.new_array(shape, planned)
        try:
            decoded = self.decode_jpeg(
                payload,
                "RGB" if planned.channels == 3 else "GRAY",
                False,                             # no fast DCT
                False,                             # no fast upsampling
                planned.height if planned.is_reduced else 0,
                planned.width if planned.is_reduced else 0,
                1.0,
                stored,
            )
        # It found a fault, or no memory: Pillow decodes it, or raises an error.
        except Exception:
            return False
        # never the case for any known JPEG; the rest of the array would be anything
        if decoded.shape != shape:
            return False
        if planned.is_copied:
            copy_turned(array, stored, planned)
        return True


cdef int copy_turned(object array, object stored, const job* planned) except -1:
    cdef const unsigned char[::1] source = stored.reshape(-1)
    cdef unsigned char[::1] target = array.reshape(-1)
    cdef int64_t size = source.shape[0]
    if size < RELEASED_BYTES:
        turn(
            &source[0], &target[0], planned.height, planned.width, planned.channels,
            planned.orientation,
        )
    else:
        with nogil:
            turn(
                &source[0], &target[0], planned.height, planned.width,
                planned.channels, planned.orientation,
            )
    return 0


cdef object shown_shape(const job* planned):
    cdef int64_t height = planned.height, width = planned.width
    if planned.orientation > 4:
        height, width = width, height
    if planned.channels == 1:
        return (height, width)
    return (height, width, 3)
