"""Progress as the host counts it; `seen` lets a test read what was reported."""


class ProgressBar:
    seen: list = []

    def __init__(self, total, node_id=None):
        self.total, self.current = total, 0

    def update_absolute(self, value, total=None, preview=None):
        self.total = self.total if total is None else total
        self.current = min(value, self.total)
        self.seen.append((self.current, self.total))
