"""Outcomes of a step along the headers."""

cdef enum walk_status:
    WALK_GROUP                     # all is well: a group, a record, a window was read
    WALK_TURN                      # go on, after a look at pending signals
    WALK_NEED                      # bytes up to need_end are not in the window
    WALK_FEED                      # the same, and the shell must bring them
    WALK_SEGMENT_END
    WALK_END_MARKER
    WALK_NO_MARKER
    WALK_GLOBAL  # a global header that changes later members, on a guessed chain
    WALK_CUT_HEADER
    WALK_CUT_EXTENSION
    WALK_CUT_PAYLOAD
    WALK_CUT_PADDING
    WALK_BAD_CHECKSUM
    WALK_BAD_SIZE
    WALK_BAD_PAX
    WALK_NUL_IN_NAME
    WALK_GLOBAL_SIZE
    WALK_HUGE_EXTENSION
    WALK_ORPHAN_EXTENSION
    WALK_SHRUNK
    WALK_READ_FAILED
    WALK_NO_MEMORY
