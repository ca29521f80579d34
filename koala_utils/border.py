"""Where the picture lies on a scan, inside the dark edge of a film or the white edge of a print."""

import numpy as np

NEARLY_BLACK, NEARLY_WHITE = 0.16, 0.97  # of scanned film edges and print borders


def find_picture(grey, deepest=0.2):
    """Where the picture lies inside the black edge of a film or the white edge of a print.

    The outermost lines of a side must be nearly black or nearly white. Going inwards, a line
    belongs to the edge if seven in ten of its pixels are like them: there is writing on edges, and
    corners are round. One or two other lines, such as those of a notch, are passed over. An edge
    ends suddenly. A dark border belongs to the picture if it fades into it, goes deeper than
    `deepest`, or is on one side only.

    Args:
        grey: float (H, W, 1) in [0, 1].
        deepest: the deepest edge, as a share of the side.

    Returns:
        (top, bottom, left, right): the picture is `grey[top:bottom, left:right]`. Where there is
        no edge, it is the whole photograph.
    """
    grey = grey[..., 0]
    edges = {"top": 0, "bottom": 0, "left": 0, "right": 0}

    def inside():
        return (
            slice(edges["top"], grey.shape[0] - edges["bottom"]),
            slice(edges["left"], grey.shape[1] - edges["right"]),
        )

    for _ in range(2):  # twice: an edge on one side hides the ends of the lines on the others
        for side in edges:
            across = side in ("top", "bottom")
            lines = grey[inside()] if across else grey[inside()].T
            lines = lines if side in ("top", "left") else lines[::-1]
            whole = grey.shape[0 if across else 1]
            reach = int(deepest * whole) - edges[side]
            if reach < 1:
                continue
            alike = _likeness_to_an_edge(lines[:reach], max(1, whole // 100))
            last, gap = -1, max(2, whole // 60)
            for i in np.flatnonzero(alike > 0.7):
                if i - last > gap + 1:
                    break
                last = int(i)
            after = alike[last + 1 + gap // 2 : last + 2 + 2 * gap]
            if last >= 0 and len(after) and after.mean() < 0.5:
                # The picture begins a little further in: scans are blurred, and films are tilted.
                edges[side] += last + 1 + whole // 150
    if sum(depth > 0 for depth in edges.values()) < 2:
        return 0, grey.shape[0], 0, grey.shape[1]
    rows, columns = inside()
    return rows.start, rows.stop, columns.start, columns.stop


def _likeness_to_an_edge(lines, outermost):
    """The share of each line's pixels that are like nearly black or white outermost lines."""
    share = np.zeros(len(lines))
    for start in (
        0,
        len(lines) // 12,
    ):  # there may be two edges: the white rim of a mount, and the black film in it
        level = np.median(lines[start : start + outermost])
        if level < NEARLY_BLACK or level > NEARLY_WHITE:
            share = np.maximum(share, (np.abs(lines - level) < 0.06).mean(1))
    return share
