"""Hierarchies: paths against a breadth-first search, files of both forms, WordNet."""

from collections import deque

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zeroshot.errors import ArtifactError, LabelError
from zeroshot.hierarchy import Hierarchy, read_hop_list

ANIMALS = Hierarchy(
    {
        "n1": ["n5", "n6"],  # a house cat is a cat and a pet
        "n2": "n6",
        "n3": "n5",
        "n5": "n7",
        "n6": "n7",
        "n8": "n9",
        "n10": "n9",
    },
    {
        "n1": ["house cat", "Felis catus"],
        "n2": ["dog", "Canis familiaris"],
        "n3": ["lion"],
        "n5": ["cat"],
        "n6": ["pet"],
        "n7": ["animal"],
        "n8": ["crane"],
        "n9": ["machine", "lion"],
        "n10": ["crane"],
    },
)


@given(
    st.dictionaries(
        st.sampled_from("bcdefghij"),
        st.sets(st.sampled_from("abcdefghijk"), min_size=1, max_size=3),
        min_size=1,
    )
)
def test_hops_equal_a_breadth_first_search(parents):
    parents = {child: sorted(above - {child}) for child, above in parents.items()}
    around = {}
    for child, above in parents.items():
        for parent in above:
            around.setdefault(child, set()).add(parent)
            around.setdefault(parent, set()).add(child)
    if not around:
        return
    hierarchy = Hierarchy(parents)
    nodes = sorted(around)
    hops = hierarchy.hops(nodes, nodes)
    for start, row in zip(nodes, hops, strict=True):
        found, queue = {start: 0}, deque([start])
        while queue:
            node = queue.popleft()
            for other in around[node] - set(found):
                found[other] = found[node] + 1
                queue.append(other)
        assert row.tolist() == [found.get(node, np.inf) for node in nodes]
        for radius in range(4):
            near = {node for node, hop in found.items() if hop <= radius}
            assert hierarchy.within([start], radius) == near


@pytest.mark.parametrize(
    ("label", "node"),
    [
        ("n1", "n1"),
        ("house cat", "n1"),
        ("House_Cat", "n1"),
        ("felis catus", "n1"),
        ("dog, Canis familiaris", "n2"),
        ("cat", "n5"),
        ("lion", "n3"),  # a first name goes before the machine's second
    ],
)
def test_find_takes_ids_and_names(label, node):
    assert ANIMALS.find([label]) == [node]


def test_find_names_all_labels_without_one_node():
    with pytest.raises(LabelError) as caught:
        ANIMALS.find(["dog", "okapi", "crane", "zorilla"])
    message = str(caught.value)
    assert "none for 'okapi', 'zorilla'" in message
    assert "several for 'crane' (n8, n10)" in message
    assert "'dog'" not in message


def test_labels_that_are_given_go_before_ids_and_names():
    labelled = ANIMALS.with_labels({"n8": "crane", "n3": "n2", "n77": "okapi"})
    assert labelled.find(["crane", "n2", "Canis familiaris", "n8"]) == [
        *("n8", "n3", "n2", "n8")
    ]
    with pytest.raises(LabelError, match="none for 'okapi'"):
        labelled.find(["okapi"])
    with pytest.raises(LabelError, match="several for 'crane'"):
        ANIMALS.find(["crane"])  # the one it was made from is not changed
    shared = ANIMALS.with_labels({"n1": "beast", "n2": "beast"})
    with pytest.raises(LabelError, match=r"several for 'beast' \(n1, n2\)"):
        shared.find(["beast"])


def test_hops_of_labels_and_candidates_are_rows_and_columns():
    hops = ANIMALS.hops(["dog", "cat"], ["house cat", "animal", "machine"])
    assert hops.tolist() == [[2, 2, np.inf], [1, 1, np.inf]]


@pytest.mark.parametrize("parents", [{}, {"cat": []}, {"cat": "cat"}])
def test_a_hierarchy_without_edges_raises(parents):
    with pytest.raises(LabelError, match="Expected parents, none its own child"):
        Hierarchy(parents)


def test_from_csv_reads_several_parents(tmp_path):
    path = tmp_path / "tree.csv"
    path.write_text("child,parent\ncat,animal\ncat,pet\ndog,pet\n")
    tree = Hierarchy.from_csv(path)
    assert tree.hops(["cat"], ["dog", "animal"]).tolist() == [[2, 1]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cat,animal\n", "header 'child,parent'"),
        ("child,parent\ncat,\n", "child and a parent in .* line 2"),
        ("child,parent\ncat,animal,pet\n", "child and a parent in .* line 2"),
        ("", "empty"),
    ],
)
def test_from_csv_of_another_table_raises(tmp_path, text, message):
    path = tmp_path / "tree.csv"
    path.write_text(text)
    with pytest.raises(ArtifactError, match=message):
        Hierarchy.from_csv(path)


def write_wordnet(folder):
    edges = [("n2", "n1"), ("n3", "n1"), ("fall11", "n1"), ("fa11misc", "n4")]
    edges += [("fall11", "fa11misc"), ("n4", "n5")]
    both = [*edges, *((b, a) for a, b in edges)]
    (folder / "imagenet_graph_edges.tsv").write_text(
        "\n".join(f"{a}\t{b}" for a, b in both) + "\n"
    )
    (folder / "words.txt").write_text(
        "n1\tanimal, beast\nn2\tdog\nn3\tcat\nn4\tthing\nn5\todd thing\nn9\tunused\n"
    )


def test_from_wordnet_leaves_the_pseudo_nodes_out(tmp_path):
    write_wordnet(tmp_path)
    wordnet = Hierarchy.from_wordnet(tmp_path)
    assert sorted(wordnet.nodes) == ["n1", "n2", "n3", "n4", "n5"]
    assert wordnet.hops(["dog"], ["cat", "beast", "thing"]).tolist() == [[2, 1, np.inf]]


def test_from_wordnet_of_a_broken_table_raises(tmp_path):
    write_wordnet(tmp_path)
    (tmp_path / "imagenet_graph_edges.tsv").write_text("n1 n2\n")
    with pytest.raises(ArtifactError, match="separated by a tab"):
        Hierarchy.from_wordnet(tmp_path)
    with pytest.raises(ArtifactError, match="No such file"):
        Hierarchy.from_wordnet(tmp_path / "absent")


def test_read_hop_list_gives_the_ids_in_order(tmp_path):
    (tmp_path / "2-hops.txt").write_text("n03236735\nn01878061\n")
    assert read_hop_list(tmp_path, "2-hops") == ["n03236735", "n01878061"]
    (tmp_path / "3-hops.txt").write_text("n03236735\nn03236735\n")
    with pytest.raises(ArtifactError, match="one of them twice"):
        read_hop_list(tmp_path, "3-hops")
    (tmp_path / "all.txt").write_text("dog\n")
    with pytest.raises(ArtifactError, match="Got 'dog'"):
        read_hop_list(tmp_path, "all")
    with pytest.raises(ValueError, match="Got '4-hops'"):
        read_hop_list(tmp_path, "4-hops")


@pytest.mark.slow  # 5 s: the whole graph
def test_published_hop_lists_are_steps_of_the_published_graph(real_data):
    folder = real_data / "hierarchy"
    wordnet = Hierarchy.from_wordnet(folder)
    assert len(wordnet.nodes) == 32_081
    seen, everything = (set(read_hop_list(folder, name)) for name in ("1k", "all"))
    assert len(seen) == 1000
    assert len(everything) == 20_846
    # What the lists call two hops is one edge. Those of the graph that have images are
    # all in the list but for one class, that of three hops lacks 7 and has others too.
    for edges, name, size, shared, only_near in (
        (1, "2-hops", 1549, 1548, 0),
        (2, "3-hops", 7860, 5977, 7),
    ):
        published = set(read_hop_list(folder, name))
        assert len(published) == size
        assert published <= everything
        near = (wordnet.within(sorted(seen), edges) - seen) & everything
        assert len(near & published) == shared
        assert len(near - published) == only_near
