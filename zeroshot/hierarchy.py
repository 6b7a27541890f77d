"""What is a kind of what: a hierarchy of labels, for hierarchical precision.

WordNet as ImageNet uses it, or the user's own tree.
"""

import copy
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.sparse.csgraph import dijkstra

from zeroshot.errors import ArtifactError, LabelError
from zeroshot.images.files import read_table

__all__ = ["HOP_LISTS", "Hierarchy", "read_hop_list"]

HOP_LISTS = ("1k", "2-hops", "3-hops", "all")

PSEUDO_NODES = {"fall11", "fa11misc"}  # ImageNet's root, and what has no place below it
BLOCK = 64  # labels whose paths are searched at once: 16 MB for all of WordNet


class Hierarchy:
    """Nodes, their names, and the is-a edges between them.

    A label finds its node by the node's own id, by all its names
    (``"dugong, Dugong dugon"``), or by any one of them, whatever the case and the
    separators; a first name goes before another. Where that does not tell nodes apart,
    give these labels of their own (`with_labels`).

    Parameters
    ----------
    parents : mapping of str to str or sequence of str
        For each node what it is a kind of: one parent, or several.
    names : mapping of str to sequence of str, optional
        Names of nodes, the usual one first. A node without is called by its id.

    Raises
    ------
    LabelError
        If there is no edge, or a node is its own parent.

    Examples
    --------
    >>> tree = Hierarchy({"cat": "animal", "dog": "animal", "car": "machine"})
    >>> tree.hops(["cat"], ["cat", "dog", "animal", "car"])
    array([[ 0.,  2.,  1., inf]])
    """

    def __init__(
        self,
        parents: Mapping[str, str | Sequence[str]],
        names: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        pairs = [
            (child, parent)
            for child, above in parents.items()
            for parent in ([above] if isinstance(above, str) else above)
        ]
        if not pairs or any(child == parent for child, parent in pairs):
            loops = [child for child, parent in pairs if child == parent]
            raise LabelError(
                f"Expected parents, none its own child. Got "
                f"{f'{loops[0]!r} below itself' if loops else 'none'}. Give a parent "
                f"for each label, such as {{'cat': 'animal'}}."
            )
        self._set(pairs, names or {})

    def _set(
        self, edges: Sequence[tuple[str, str]], names: Mapping[str, Sequence[str]]
    ) -> None:
        self.nodes = tuple(dict.fromkeys(node for edge in edges for node in edge))
        self._names = names
        self._labelled: dict[str, list[str]] = {}
        self._row = {node: row for row, node in enumerate(self.nodes)}
        rows = np.array([[self._row[a], self._row[b]] for a, b in edges])
        shape = len(self.nodes), len(self.nodes)
        self._up = csr_array((np.ones(len(rows)), (rows[:, 0], rows[:, 1])), shape)
        self._graph = (self._up + self._up.T).tocsr()

    @classmethod
    def from_csv(cls, path: str | Path) -> Self:
        """Read the user's own tree: a row for each child and parent.

        Parameters
        ----------
        path : str or Path
            UTF-8, separated by commas, with the header ``child,parent``. A child with
            several parents has several rows.

        Returns
        -------
        hierarchy : Hierarchy

        Raises
        ------
        ArtifactError
            If it is no such table.
        """
        (_, header), *rows = read_table(Path(path))
        if [cell.lower() for cell in header] != ["child", "parent"]:
            raise ArtifactError(
                f"Expected the header 'child,parent' in '{path}'. Got {header}. Name "
                f"the two columns so."
            )
        parents: dict[str, list[str]] = {}
        for line, row in rows:
            if len(row) != 2 or not all(row):
                raise ArtifactError(
                    f"Expected a child and a parent in '{path}', line {line}. Got "
                    f"{row}. Leave out what has no parent."
                )
            parents.setdefault(row[0], []).append(row[1])
        return cls(parents)

    @classmethod
    def from_wordnet(cls, folder: str | Path) -> Self:
        """Read WordNet as published with ImageNet's zero-shot lists.

        Parameters
        ----------
        folder : str or Path
            Holds ``imagenet_graph_edges.tsv``, two ids of synsets in each line (both
            directions may be there), and ``words.txt``, an id and its names.

        Returns
        -------
        hierarchy : Hierarchy
            Without the pseudo nodes ``fall11`` and ``fa11misc``, which would put
            unrelated synsets two edges from each other.

        Raises
        ------
        ArtifactError
            If a file is missing or is no such table.
        """
        names = {
            node: tuple(text.split(", "))
            for node, text in _pairs(Path(folder) / "words.txt")
        }
        edges = {
            (min(pair), max(pair))
            for pair in _pairs(Path(folder) / "imagenet_graph_edges.tsv")
            if not PSEUDO_NODES & {*pair}
        }
        hierarchy = cls.__new__(cls)
        hierarchy._set(sorted(edges), names)
        hierarchy._up = _leaves_first(hierarchy._graph)
        return hierarchy

    def with_labels(self, labels: Mapping[str, str]) -> Self:
        """Return the hierarchy with nodes that go by the given labels.

        For names that several nodes have: "crane" is a bird and a machine.

        Parameters
        ----------
        labels : mapping of str to str
            Labels by the ids of their nodes, such as those of
            `zeroshot.datasets.read_class_names`. What is no node is passed over.

        Returns
        -------
        hierarchy : Hierarchy
            `find` tries these labels first; ids and names still lead to nodes too.

        Examples
        --------
        >>> tree = Hierarchy(
        ...     {"n1": "n3", "n2": "n4"}, {"n1": ["crane"], "n2": ["crane"]}
        ... )
        >>> tree.with_labels({"n2": "crane"}).find(["crane"])
        ['n2']
        """
        labelled = copy.copy(self)
        labelled._labelled = {}
        for node, label in labels.items():
            if node in self._row:
                labelled._labelled.setdefault(label, []).append(node)
        return labelled

    def within(self, labels: Sequence[str] | NDArray[Any], hops: int) -> set[str]:
        """Return the nodes at most so many edges from any of the labels.

        Parameters
        ----------
        labels : sequence of str
        hops : int
            >= 0.

        Returns
        -------
        nodes : set of str
            With those of the labels.

        Raises
        ------
        LabelError
            As `find`.
        """
        near = np.zeros(len(self.nodes), dtype=np.bool_)
        near[[self._row[node] for node in self.find(labels)]] = True
        for _ in range(hops):
            near |= self._graph @ near > 0
        return {self.nodes[row] for row in np.flatnonzero(near)}

    def names(self, node: str) -> tuple[str, ...]:
        """Return the names of a node, the usual one first; its id if it has none.

        Parameters
        ----------
        node : str

        Returns
        -------
        names : tuple of str
        """
        return tuple(self._names.get(node) or (node,))

    def below(self, labels: Sequence[str] | NDArray[Any]) -> set[str]:
        """Return the nodes that are a kind of any of the labels, and those themselves.

        The files of WordNet do not tell child from parent. There, a node with one
        neighbour is the child of it, then likewise without it, and so on: what has two
        parents, and what stands above such a node, is not found.

        Parameters
        ----------
        labels : sequence of str

        Returns
        -------
        nodes : set of str

        Raises
        ------
        LabelError
            As `find`.

        Examples
        --------
        >>> tree = Hierarchy({"cat": "animal", "kitten": "cat", "dog": "animal"})
        >>> sorted(tree.below(["cat"]))
        ['cat', 'kitten']
        """
        under = np.zeros(len(self.nodes), dtype=np.bool_)
        under[[self._row[node] for node in self.find(labels)]] = True
        while True:
            more = under | (self._up @ under > 0)
            if (more == under).all():
                return {self.nodes[row] for row in np.flatnonzero(under)}
            under = more

    def find(self, labels: Sequence[str] | NDArray[Any]) -> list[str]:
        """Return the node of each label.

        Parameters
        ----------
        labels : sequence of str

        Returns
        -------
        nodes : list of str

        Raises
        ------
        LabelError
            If labels have no node, or several; names all of them.
        """
        nodes, unknown, doubtful = [], [], []
        for label in map(str, labels):
            found = self._labelled.get(label) or (
                [label] if label in self._row else self._named(_plain(label))
            )
            nodes.append(found[0] if found else "")
            if not found:
                unknown.append(repr(label))
            elif len(found) > 1:
                doubtful.append(f"{label!r} ({', '.join(found)})")
        if unknown or doubtful:
            raise LabelError(
                f"Expected one node of the hierarchy for each label. Got none for "
                f"{_first_ten(unknown)}, and several for {_first_ten(doubtful)}. Use "
                f"ids of nodes as labels, say whose labels they are "
                f"(Hierarchy.with_labels, or --class-names with ids as folders), or "
                f"leave these labels out."
            )
        return nodes

    def hops(
        self,
        labels: Sequence[str] | NDArray[Any],
        candidates: Sequence[str] | NDArray[Any],
    ) -> NDArray[np.float64]:
        """Return the number of edges between labels and candidates.

        Parameters
        ----------
        labels, candidates : sequence of str
            Labels or ids, see `find`.

        Returns
        -------
        hops : ndarray of shape (n_labels, n_candidates), float64
            Edges of the shortest path, up or down; 0 for itself, inf without a path.
            For `zeroshot.metrics.hierarchical_precision`.

        Raises
        ------
        LabelError
            As `find`.
        """
        rows = [self._row[node] for node in self.find(labels)]
        columns = [self._row[node] for node in self.find(candidates)]
        hops = np.empty((len(rows), len(columns)))
        for start in range(0, len(rows), BLOCK):
            block = rows[start : start + BLOCK]
            paths = dijkstra(self._graph, indices=block, unweighted=True)
            hops[start : start + BLOCK] = paths[:, columns]
        return hops

    def _named(self, text: str) -> list[str]:
        return next((names[text] for names in self._index if text in names), [])

    @cached_property
    def _index(self) -> tuple[dict[str, list[str]], ...]:
        """Nodes by all their names together, by the first one, and by any."""
        whole, first, each = defaultdict(list), defaultdict(list), defaultdict(list)
        for node in self.nodes:
            names = self._names.get(node, [node])
            whole[_plain(", ".join(names))].append(node)
            first[_plain(names[0])].append(node)
            for text in {_plain(name) for name in names}:
                each[text].append(node)
        return whole, first, each


def read_hop_list(folder: str | Path, name: str) -> list[str]:
    """Read one of ImageNet's lists of classes for zero-shot evaluation.

    Parameters
    ----------
    folder : str or Path
        Holds the lists, as ``<name>.txt`` with the id of a synset in each line.
    name : {"1k", "2-hops", "3-hops", "all"}
        The 1000 classes of training; the 1,549, 7,860 and 20,846 candidates of the
        published lists. What these call two hops is one edge of the graph that comes
        with them: a hop counts from the class's own place.

    Returns
    -------
    nodes : list of str
        WordNet ids, in the order of the file.

    Raises
    ------
    ValueError
        If ``name`` is none of the above.
    ArtifactError
        If the file is missing or holds something else.

    References
    ----------
    .. [1] Frome et al., "DeViSE", NeurIPS 2013, section 4.3.
    .. [2] Xian et al., TPAMI 2018, section 5.1 (ImageNet).
    """
    if name not in HOP_LISTS:
        raise ValueError(f"Expected one of {', '.join(HOP_LISTS)}. Got {name!r}.")
    path = Path(folder) / f"{name}.txt"
    nodes = [row[0] for _, row in read_table(path, "\t") if row]
    bad = [n for n in nodes if not (n[:1] == "n" and n[1:].isdecimal() and len(n) == 9)]
    if bad or len(set(nodes)) != len(nodes):
        raise ArtifactError(
            f"Expected the id of another synset, such as n02084071, in each line of "
            f"'{path}'. Got {repr(bad[0]) if bad else 'one of them twice'}."
        )
    return nodes


def _leaves_first(graph: csr_array) -> csr_array:
    """Return the edges of a graph from child to parent, as far as leaves lead."""
    around = [set(graph.indices[a:b].tolist()) for a, b in pairwise(graph.indptr)]
    leaves = [node for node, near in enumerate(around) if len(near) == 1]
    edges = []
    while leaves:
        child = leaves.pop()
        if not around[child]:
            continue
        parent = around[child].pop()
        edges.append((child, parent))
        around[parent].discard(child)
        if len(around[parent]) == 1:
            leaves.append(parent)
    up = np.array(edges, np.intp).reshape(-1, 2)
    return csr_array((np.ones(len(up)), (up[:, 0], up[:, 1])), graph.shape)


def _pairs(path: Path) -> list[tuple[str, str]]:
    pairs = []
    for line, row in read_table(path, "\t"):
        if len(row) != 2:
            raise ArtifactError(
                f"Expected two values, separated by a tab, in '{path}', line {line}. "
                f"Got {len(row)}."
            )
        pairs.append((row[0], row[1]))
    return pairs


def _first_ten(items: list[str]) -> str:
    others = " and others" if len(items) > 10 else ""
    return f"{', '.join(items[:10]) or 'no label'}{others}"


def _plain(text: str) -> str:
    return " ".join(re.findall(r"[\w']+", text.casefold().replace("_", " ")))
