"""What a file of the pack does, read from its source."""

from __future__ import annotations

import ast
from collections.abc import Iterator

NETWORK = {
    "requests",
    "urllib",
    "http",
    "socket",
    "httpx",
    "aiohttp",
    "ftplib",
    "smtplib",
    "websockets",
    "huggingface_hub",
}
PROCESSES = {"subprocess", "multiprocessing", "pty", "pip", "ensurepip", "setuptools"}
CODE_IN_FILES = {"pickle", "cPickle", "dill", "cloudpickle", "marshal", "shelve", "joblib"}
CODE_IN_TEXT = {"eval", "exec", "compile", "__import__", "builtins.eval", "builtins.exec"}
SYSTEM = {"os.system", "os.popen", "os.startfile", "os.execv", "os.execvp", "os.spawnv", "os.fork", "os.putenv"}
PATCHES = {"setattr", "delattr", "sys.path.append", "sys.path.insert", "sys.modules.pop", "os.environ.setdefault"}
WRITES = {
    "write_text",
    "write_bytes",
    "mkdir",
    "makedirs",
    "unlink",
    "rmdir",
    "rmtree",
    "rename",
    "touch",
    "symlink_to",
}
WRITES |= {"mkstemp", "mkdtemp", "TemporaryDirectory", "NamedTemporaryFile", "copytree", "save_file"}
WRITES_IN_FULL = {"os.remove", "os.replace", "os.truncate", "torch.save", "np.save", "shutil.copy", "shutil.move"}


def imported(tree: ast.AST) -> set[str]:
    """Top-level names of the absolute imports anywhere in a file."""
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and not node.level}
    return {name.split(".")[0] for name in names}


def called(tree: ast.AST) -> set[str]:
    """Dotted names of everything called in a file."""
    return {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}


def foreign_names(tree: ast.AST) -> set[str]:
    """Local names of what a file imports, from anywhere."""
    statements = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
    return {alias.asname or alias.name.split(".")[0] for node in statements for alias in node.names}


def targets(tree: ast.AST) -> Iterator[ast.expr]:
    """Everything that is assigned to or deleted."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign | ast.Delete):
            yield from node.targets
        elif isinstance(node, ast.AugAssign | ast.AnnAssign):
            yield node.target


def patched(tree: ast.AST) -> list[str]:
    """Attributes and items of imported things that a file sets or deletes, and calls that do the same."""
    foreign, found = foreign_names(tree), sorted(called(tree) & PATCHES)
    for target in targets(tree):
        root = target
        while isinstance(root, ast.Attribute | ast.Subscript):
            root = root.value
        if root is not target and isinstance(root, ast.Name) and root.id in foreign:
            found.append(ast.unparse(target))
    return found


def written(tree: ast.AST) -> list[str]:
    """Calls that write to the disk or take something off it."""
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    names = [ast.unparse(node.func) for node in calls]
    found = [name for name in names if name.split(".")[-1] in WRITES or name in WRITES_IN_FULL]
    return found + [ast.unparse(node) for node in calls if opens_to_write(node)]


def opens_to_write(call: ast.Call) -> bool:
    """open(path, mode) or path.open(mode) with a mode that is not reading."""
    if ast.unparse(call.func).split(".")[-1] != "open":
        return False
    places = call.args[:2] if isinstance(call.func, ast.Attribute) else call.args[1:2]
    given = [*places, *(keyword.value for keyword in call.keywords if keyword.arg == "mode")]
    modes = [set(value.value) for value in given if isinstance(value, ast.Constant) and isinstance(value.value, str)]
    return any(mode <= set("rwxabt+") and mode & set("wxa+") for mode in modes)


def unsafe(tree: ast.AST) -> list[str]:
    """What the registry's standards and our own forbid in every file of the pack."""
    modules = imported(tree) & (NETWORK | PROCESSES | CODE_IN_FILES)
    return sorted(modules) + sorted(called(tree) & (CODE_IN_TEXT | SYSTEM)) + patched(tree)
