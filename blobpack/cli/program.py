"""The entry point of the program `blobpack`."""

import signal


def run() -> None:
    """Run the program; until its modules are imported, Ctrl-C ends the process at once."""
    # By default Ctrl-C raises an exception, and Python drops an exception that leaves a callback of its import system: the
    # program would run on. Nothing has begun here that would have to be undone.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from blobpack.cli.main import main

    main()
