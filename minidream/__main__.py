"""The command line: `minidream demo`, `train`, `doctor`, `weights` or `notebooks`."""

import sys
from importlib import import_module

# Imported only when asked for: each takes seconds.
COMMANDS = {
    "demo": ("course.demo", "runs the first notebook without a browser, and saves its pictures"),
    "notebooks": ("course.notebooks", "copies the notebooks into a folder, and opens them"),
    "doctor": ("course.doctor", "says what is installed, and whether each device is right"),
    "train": (
        "train.__main__",
        "trains the toy, or fine-tunes a model on your own data: train tune",
    ),
    "weights": ("weights.__main__", "writes a random checkpoint of full size"),
}


def usage() -> str:
    """What `minidream --help` prints."""
    lines = [f"  {name:10} {about}" for name, (_, about) in COMMANDS.items()]
    return "\n".join(
        [
            "usage: minidream COMMAND [OPTIONS]",
            "",
            "DreamLLM made small enough to understand.",
            "",
            *lines,
            "",
            "`minidream COMMAND --help` lists the options of a command.",
        ]
    )


def main(arguments: list[str] | None = None) -> None:
    """Runs one command.

    Args:
        arguments: None takes those of the process.
    """
    command, *options = (sys.argv[1:] if arguments is None else arguments) or ["--help"]
    if command in ("-h", "--help"):
        print(usage())
        return
    if command not in COMMANDS:
        sys.exit(f"{usage()}\n\nminidream: there is no command {command!r}")
    import_module(f".{COMMANDS[command][0]}", "minidream").main(options)


if __name__ == "__main__":
    main()
