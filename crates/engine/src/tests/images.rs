//! The real image store under the engine. Needs root, for layers are made as they are owned.

use std::{fs::File, process::Command, sync::Arc};

use base::ErrorKind;
use workload::Driver;

use super::harness::{World, of};
use crate::{
    Change, Config, Create, Embedded, Engine, Import, NetworkMode, RemoveImage, engine::Parts,
    images::StoreImages,
};

const FORCE: RemoveImage = RemoveImage { force: true, platforms: Vec::new() };

async fn engine(world: &World, embedded: Option<Vec<u8>>) -> Engine {
    let mut config = world.config();
    if let Some(archive) = embedded {
        config.embedded.insert("demo".to_owned(), Embedded::new(move || archive.clone()));
    }
    let networks = Arc::clone(&world.networks);
    let drivers: Vec<Arc<dyn Driver>> = vec![Arc::new(world.fake.clone())];
    let parts = move |config: &Config| {
        let images = Arc::new(StoreImages::open(&config.data, &config.run)?);
        Ok(Parts { images, networks })
    };
    Engine::open_with(config, drivers, parts).await.unwrap()
}

/// A root file system in an archive.
fn root_archive(world: &World) -> File {
    let dir = world.dir.path().join("root");
    std::fs::create_dir_all(dir.join("bin")).unwrap();
    std::fs::write(dir.join("bin/sh"), "not a shell").unwrap();
    let archive = world.dir.path().join("root.tar");
    let made = Command::new("tar").arg("-cf").arg(&archive).arg("-C").arg(&dir).arg(".").status();
    assert!(made.unwrap().success());
    File::open(archive).unwrap()
}

async fn import(engine: &Engine, world: &World, name: &str) -> String {
    let changes = vec!["CMD [\"sh\"]".to_owned(), "EXPOSE 80".to_owned(), "ENV A=b".to_owned()];
    let import = Import { reference: Some(name.to_owned()), changes, ..Import::default() };
    engine.import(root_archive(world), import, Box::new(|_| ())).await.unwrap()
}

#[tokio::test]
async fn an_imported_image_is_listed_run_kept_while_used_and_removed() {
    if !testkit::need::root() || testkit::need::tool("tar").is_none() {
        return;
    }
    let world = World::new();
    let engine = engine(&world, None).await;
    let id = import(&engine, &world, "small").await;
    assert_eq!(engine.info().images, 1);
    engine.tag("small", "other:v1").await.unwrap();
    let image = engine.image_inspect("other:v1", None).await.unwrap();
    assert_eq!((&image.id, image.references.len(), image.layers.len()), (&id, 2, 1));
    assert_eq!(image.config.command.as_deref(), Some(&["sh".to_owned()][..]));
    assert_eq!(image.config.expose, [(80, crate::Protocol::Tcp)]);

    let create = Create { image: "small".to_owned(), network: NetworkMode::None, ..of(&[]) };
    let container = engine.run(create, None, None).await.unwrap().id;
    let shown = engine.inspect(container.as_str()).unwrap();
    assert_eq!((&shown.image_id, shown.config.command[0].as_str()), (&id, "sh"));
    assert_eq!(engine.images().await.unwrap()[0].containers, 1);
    let (_, process) = world.fake.spawned().pop().unwrap();
    assert!(process.env.contains(&"A=b".to_owned()));
    let workload::ProcessRoot::Own(root) = process.root else { panic!("it has a root") };
    let workload::RootFs::Overlay { lower, .. } = root.root else { panic!("it is an overlay") };
    assert_eq!(std::fs::read_to_string(lower[0].join("bin/sh")).unwrap(), "not a shell");

    engine.remove_image("other:v1", RemoveImage::default()).await.unwrap();
    let used = engine.remove_image("small", RemoveImage::default()).await.unwrap_err();
    assert_eq!(used.kind(), ErrorKind::Conflict, "{used}");
    let remove = crate::Remove { force: true, ..crate::Remove::default() };
    engine.remove(container.as_str(), remove).await.unwrap();
    let gone = engine.remove_image("small", FORCE).await.unwrap();
    assert!(gone.iter().any(|change| matches!(change, Change::Deleted(digest) if *digest == id)));
    assert_eq!(engine.info().images, 0);
    let missing = engine.image_inspect("small", None).await.unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::NotFound);
    engine.close().await;
}

#[tokio::test]
async fn an_image_that_the_build_brings_along_is_loaded_when_it_is_asked_for() {
    if !testkit::need::root() || testkit::need::tool("tar").is_none() {
        return;
    }
    let world = World::new();
    let first = engine(&world, None).await;
    import(&first, &world, "demo").await;
    let path = world.dir.path().join("demo.tar");
    first.save(vec!["demo".to_owned()], Vec::new(), File::create(&path).unwrap()).await.unwrap();
    first.close().await;
    let archive = std::fs::read(path).unwrap();

    let other = World::new();
    let engine = engine(&other, Some(archive)).await;
    assert!(engine.images().await.unwrap().is_empty());
    let create = Create { image: "demo".to_owned(), network: NetworkMode::None, ..of(&[]) };
    engine.create(create).await.unwrap();
    assert_eq!(engine.images().await.unwrap()[0].references, ["demo:latest"]);
    let misspelt = Create { image: "demu".to_owned(), ..of(&[]) };
    let missing = engine.create(misspelt).await.unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::NotFound);
    assert!(missing.to_string().starts_with("No such image: demu"), "{missing}");
    engine.close().await;
}
