//! Who has what, and in which place.

use super::*;

fn wanted(changes: &str, layers: &[&str]) -> Wanted {
    let layers = layers.iter().map(PathBuf::from).collect();
    Wanted { changes: changes.into(), layers, shares: Vec::new() }
}

fn id(name: &str) -> ProcessId {
    name.parse().unwrap()
}

/// The places, each with its disk's number and file.
fn places(furniture: &Furniture) -> String {
    let place = |disk: &Option<Disk>| match disk {
        Some(disk) => format!("{}:{}", disk.number, disk.what.image.display()),
        None => "-".to_owned(),
    };
    furniture.places.iter().map(place).collect::<Vec<_>>().join(" ")
}

/// Has everything taken out that nobody has.
fn leave(furniture: &mut Furniture, name: &str) {
    for (place, _) in furniture.forget(&id(name)).disks {
        furniture.empty(place);
    }
}

#[test]
fn layers_are_shared_and_changes_are_not() {
    let mut furniture = Furniture::new(8, false);
    let (main, moved) = furniture.fit(&id("main"), &wanted("one", &["app", "base"])).unwrap();
    assert_eq!(main.disks, moved.disks.iter().map(|(_, disk)| disk.clone()).collect::<Vec<_>>());
    let (second, moved) = furniture.fit(&id("second"), &wanted("two", &["base"])).unwrap();
    assert_eq!((moved.disks.len(), moved.disks[0].0), (1, 3));
    assert_eq!(second.disks[1], main.disks[2]);
    assert_eq!(places(&furniture), "0:one 1:app 2:base 3:two - - - -");
    assert_eq!(second.changes().what, DiskImage { image: "two".into(), read_only: false });
    assert!(main.disks[1..].iter().all(|layer| layer.what.read_only));
    // What one has that another has too stays when it goes, until that one goes.
    leave(&mut furniture, "main");
    assert_eq!(places(&furniture), "- - 2:base 3:two - - - -");
    leave(&mut furniture, "second");
    assert_eq!(places(&furniture), "- - - - - - - -");
    assert_eq!(furniture.forget(&id("nobody")), Moved::default());
}

#[test]
fn what_comes_into_a_place_has_a_number_of_its_own() {
    let mut furniture = Furniture::new(3, true);
    for (round, number) in [("a", 1), ("b", 3), ("a", 5)] {
        let (fitted, _) = furniture.fit(&id("main"), &wanted(round, &["base"])).unwrap();
        assert_eq!(
            fitted.disks.iter().map(|disk| disk.number).collect::<Vec<_>>(),
            [number + 1, number]
        );
        assert_eq!(places(&furniture), format!("0: {number}:base {}:{round}", number + 1));
        leave(&mut furniture, "main");
    }
}

#[test]
fn layers_have_the_same_numbers_with_the_saved_disk_and_beside_it() {
    let layers = |scratch| {
        let mut furniture = Furniture::new(5, scratch);
        let (fitted, _) = furniture.fit(&id("main"), &wanted("one", &["app", "base"])).unwrap();
        fitted.layers().map(|layer| (layer.number, layer.what.image.clone())).collect::<Vec<_>>()
    };
    assert_eq!(layers(false), [(1, "app".into()), (2, "base".into())]);
    assert_eq!(layers(false), layers(true));
}

#[test]
fn a_layer_that_a_container_has_twice_is_two_disks() {
    let mut furniture = Furniture::new(6, false);
    let (fitted, _) = furniture.fit(&id("main"), &wanted("one", &["a", "b", "a"])).unwrap();
    assert_eq!(places(&furniture), "0:one 1:a 2:b 3:a - -");
    let (second, moved) = furniture.fit(&id("second"), &wanted("two", &["a", "a"])).unwrap();
    assert_eq!(second.disks[1..], [fitted.disks[1].clone(), fitted.disks[3].clone()]);
    assert_eq!(moved.disks.len(), 1);
}

#[test]
fn a_machine_that_is_full_says_so_and_stays_as_it_is() {
    let mut furniture = Furniture::new(4, false);
    furniture.fit(&id("main"), &wanted("one", &["a", "b"])).unwrap();
    let before = furniture.clone();
    let error = furniture.fit(&id("second"), &wanted("two", &["b", "c"])).unwrap_err();
    assert_eq!(
        error.to_string(),
        "another container in this machine: it takes 2 more disks, one for its changes and one \
         for each layer that no other has, and of the 4 places that the machine was begun with 1 \
         are empty"
    );
    assert_eq!(furniture, before);
    furniture.fit(&id("second"), &wanted("two", &["b", "a"])).unwrap();

    let shares = |count: usize| {
        let share = |n: usize| Shared {
            path: n.to_string().into(),
            read_only: false,
            recursive_read_only: false,
        };
        Wanted { shares: (0..count).map(share).collect(), ..wanted("one", &[]) }
    };
    let mut furniture = Furniture::new(4, false);
    furniture.fit(&id("main"), &shares(SHARES_MAX)).unwrap();
    let error = furniture.fit(&id("second"), &Wanted { changes: "two".into(), ..shares(1) });
    assert!(error.unwrap_err().to_string().contains("at most 256"));
}

#[test]
fn changes_are_one_containers() {
    let mut furniture = Furniture::new(8, false);
    furniture.fit(&id("main"), &wanted("one", &["a"])).unwrap();
    let error = furniture.fit(&id("second"), &wanted("one", &["a"])).unwrap_err();
    assert_eq!(error.to_string(), "the disk one is that of the container of process main");
    leave(&mut furniture, "main");
    furniture.fit(&id("second"), &wanted("one", &["a"])).unwrap();
}

#[test]
fn a_disk_that_was_not_let_go_of_is_the_one_it_was_when_it_is_wanted_again() {
    let mut furniture = Furniture::new(3, false);
    let (before, _) = furniture.fit(&id("main"), &wanted("one", &["a"])).unwrap();
    furniture.forget(&id("main"));
    let (after, moved) = furniture.fit(&id("main"), &wanted("one", &["a"])).unwrap();
    assert_eq!((before.disks, moved.disks.len()), (after.disks, 0));
}

#[test]
fn only_a_machine_that_never_had_another_container_is_of_one() {
    let mut furniture = Furniture::new(8, false);
    assert_eq!(furniture.is_of_one(), None);
    let (fitted, _) = furniture.fit(&id("main"), &wanted("one", &["a"])).unwrap();
    assert_eq!(furniture.is_of_one(), Some(&fitted));
    assert_eq!(furniture.fitted(&id("main"), &wanted("one", &["a"])), Some(&fitted));
    assert_eq!(furniture.fitted(&id("main"), &wanted("one", &["b"])), None);
    furniture.fit(&id("second"), &wanted("two", &["a"])).unwrap();
    leave(&mut furniture, "second");
    assert_eq!(furniture.is_of_one(), None);
}
