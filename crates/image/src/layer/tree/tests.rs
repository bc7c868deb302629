use super::*;

fn tree() -> Tree<()> {
    Tree::new(&Limits::default())
}

fn file() -> Node<()> {
    Node { attributes: Attributes::default(), kind: Kind::File(()) }
}

fn directory(mode: u16) -> Node<()> {
    let attributes = Attributes { mode, ..Attributes::default() };
    Node { attributes, kind: Kind::Directory(Directory::default()) }
}

#[test]
fn a_directory_over_a_directory_keeps_its_children() {
    let mut tree = tree();
    let a = tree.directory(&[b"a"]).unwrap();
    tree.insert(a, b"child", file()).unwrap();
    let again = tree.insert(NodeId::ROOT, b"a", directory(0o700)).unwrap();
    assert_eq!(a, again);
    assert_eq!(tree.node(a).attributes.mode, 0o700);
    assert!(tree.find(&[b"a", b"child"]).unwrap().is_some());
}

#[test]
fn a_file_over_a_directory_takes_its_children_away() {
    let mut tree = tree();
    let a = tree.directory(&[b"a"]).unwrap();
    tree.insert(a, b"child", file()).unwrap();
    tree.insert(NodeId::ROOT, b"a", file()).unwrap();
    assert!(tree.find(&[b"a", b"child"]).unwrap().is_none());
    assert!(matches!(tree.directory(&[b"a"]), Err(EntryError::Parent(_))));
}

#[test]
fn a_whiteout_beside_a_directory_of_its_layer_hides_only_what_is_below() {
    for whiteout_first in [true, false] {
        let mut tree = tree();
        if whiteout_first {
            tree.whiteout(NodeId::ROOT, b"a").unwrap();
        }
        let a = tree.directory(&[b"a"]).unwrap();
        if !whiteout_first {
            tree.whiteout(NodeId::ROOT, b"a").unwrap();
        }
        let child = tree.child(NodeId::ROOT, b"a").unwrap();
        assert_eq!(child.node, a);
        assert!(child.whiteout);
        assert!(matches!(tree.node(a).kind, Kind::Directory(_)));
    }
}

#[test]
fn links_outlive_the_name_they_were_made_from() {
    let mut tree = tree();
    let node = tree.insert(NodeId::ROOT, b"a", file()).unwrap();
    tree.link(NodeId::ROOT, b"b", &[b"a"]).unwrap();
    tree.insert(NodeId::ROOT, b"a", directory(0)).unwrap();
    assert_eq!(tree.find(&[b"b"]), Ok(Some(node)));
    assert!(matches!(tree.link(NodeId::ROOT, b"c", &[b"a"]), Err(EntryError::LinkDirectory(_))));
    assert!(matches!(tree.link(NodeId::ROOT, b"c", &[b"x"]), Err(EntryError::LinkTarget(_))));
}
