"""What a model's process needs of this machine: python3 slipway_closure.py PACKAGE [PROGRAM…]

Prints a file a line: "path in the image<TAB>path here", sorted: the interpreter that runs this, its standard
library, the top-level packages that the package imports (or the whole virtual environment), the programs, and
all shared libraries of these. Links of directories are resolved (/lib is /usr/lib).
"""

import ast
import importlib
import importlib.util
import os
import subprocess
import sys
import sysconfig

SKIPPED = {"__pycache__", "test", "tests", "idlelib", "tkinter", "turtledemo", "ensurepip", "lib2to3", "dist-packages", "site-packages"}


def imported_names(directory):
    """Top-level names that the package's own files import, without its own modules."""
    names = set()
    for root, _, files in os.walk(directory):
        for name in files:
            if not name.endswith(".py"):
                continue
            with open(os.path.join(root, name), encoding="utf-8", errors="replace") as file:
                try:
                    tree = ast.parse(file.read())
                except (SyntaxError, ValueError):
                    continue
            for node in ast.walk(tree):
                if isinstance(node, ast.Import):
                    names.update(alias.name.split(".")[0] for alias in node.names)
                elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                    names.add(node.module.split(".")[0])
    own = {name.removesuffix(".py") for name in os.listdir(directory)}
    return sorted(names - own - set(sys.stdlib_module_names))


def package_trees(directory):
    """Directories and files of the packages, with what they import themselves."""
    for name in [*imported_names(directory), "numpy"]:
        try:
            importlib.import_module(name)
        except Exception as error:  # an optional import of the model's; it will say so itself
            print(f"{name} is not packed: {error}", file=sys.stderr)
    found = set()
    for name, module in list(sys.modules.items()):
        top = name.split(".")[0]
        path = getattr(sys.modules.get(top), "__file__", None)
        if top in sys.stdlib_module_names or top == "__main__" or not path:
            continue
        inside = os.path.basename(path).startswith("__init__.")
        found.add(os.path.dirname(path) if inside else path)
    return found


def files_below(tree, skipped=frozenset({"__pycache__"})):
    if os.path.isfile(tree):
        yield tree
        return
    for root, directories, files in os.walk(tree, followlinks=False):
        directories[:] = sorted(d for d in directories if d not in skipped and not d.startswith("config-"))
        for name in sorted(files):
            path = os.path.join(root, name)
            if os.path.isfile(path) and not name.endswith(".pyc"):
                yield path


def is_elf(path):
    with open(path, "rb") as file:
        return file.read(4) == b"\x7fELF"


def libraries(paths):
    """The shared libraries of programs and libraries, and theirs."""
    paths = [path for path in paths if (".so" in os.path.basename(path) or os.access(path, os.X_OK)) and is_elf(path)]
    found = set()
    for at in range(0, len(paths), 100):
        result = subprocess.run(["ldd", *paths[at : at + 100]], capture_output=True, text=True, env={"PATH": os.environ["PATH"], "LC_ALL": "C"})
        for line in result.stdout.splitlines():
            words = line.split()
            if "=>" in words and len(words) > 2 and words[2].startswith("/"):
                found.add(words[2])
            elif words and words[0].startswith("/") and not words[0].endswith(":"):
                found.add(words[0])
    return found


def place(path):
    """Where it goes: its directory without links."""
    return os.path.join(os.path.realpath(os.path.dirname(path)), os.path.basename(path))


def main():
    package, programs = sys.argv[1], sys.argv[2:]
    result = set()
    result.update(files_below(sysconfig.get_path("stdlib"), SKIPPED))
    if sys.prefix != sys.base_prefix:
        result.update(files_below(sys.prefix))
        result.add(os.path.realpath(sys.executable))
    else:
        for tree in package_trees(package):
            result.update(files_below(tree))
    result.add(sys.executable)
    for extra in ("/etc/ssl/certs/ca-certificates.crt",):
        if os.path.exists(extra):
            result.add(extra)
    result.update(libraries(sorted(result | set(programs))))
    for line in sorted({f"{place(path)}\t{path}" for path in result}):
        print(line)


main()
