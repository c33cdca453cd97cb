"""Runs the README: every `console` block as shell commands, every `python` block as a program, in the current folder.

A console line that begins with `$ ` is run unless it is marked `# not in CI` (it needs your clips, a GPU or hours).
"""

import re
import subprocess
import sys
from pathlib import Path


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, re.S)


def main(readme: Path) -> None:
    text = readme.read_text()
    commands = [line[2:] for block in blocks(text, "console") for line in block.splitlines() if line.startswith("$ ")]
    commands = [c for c in commands if "# not in CI" not in c]
    programs = blocks(text, "python")
    assert commands, "no commands found in the README"
    assert programs, "no programs found in the README"
    for command in commands:
        print(f"$ {command}", flush=True)
        subprocess.run(command, shell=True, check=True, executable="/bin/bash")
    for program in programs:
        print(f"python: {program.splitlines()[0]} ...", flush=True)
        subprocess.run([sys.executable, "-c", program], check=True)
    print(f"{len(commands)} commands and {len(programs)} programs of {readme.name} ran")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
