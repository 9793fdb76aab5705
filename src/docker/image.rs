//! The decky image: our own program, imported through the API. Nothing is pulled and
//! nothing is built. Its tag is taken from the program's bytes, so the image is
//! imported once per program, and an upgrade never reuses the old one.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Write};

use anyhow::{Context, bail};
use bollard::query_parameters::{
    CreateImageOptionsBuilder, ListImagesOptionsBuilder, RemoveImageOptionsBuilder,
};
use futures_util::StreamExt;
use sha2::{Digest, Sha256};
use tokio::sync::{Mutex, OnceCell, mpsc};

use crate::docker::engine::{Engine, absent, conflict, said};

/// Name of the image, before the tag.
pub const REPOSITORY: &str = "decnet-decky";
/// Where the program lies in the image.
pub const PROGRAM: &str = "/decnet";
/// Where the decky's directory is mounted.
pub const DIRECTORY: &str = "/decky";
/// The running program, even after its file was replaced by an upgrade.
const SELF: &str = "/proc/self/exe";
/// Directories of the image; the engine mounts on most of them.
const DIRECTORIES: &[&str] = &["decky", "dev", "etc", "proc", "sys", "tmp"];
/// Bytes of the archive sent at a time.
const PIECE: usize = 256 * 1024;

/// Two starts at once must not import twice.
static IMPORT: Mutex<()> = Mutex::const_new(());

/// The image of this program, imported when the engine lacks it.
///
/// # Errors
/// When the program cannot be read or the engine refuses the import.
pub async fn ensure(engine: &Engine) -> anyhow::Result<String> {
    let tag = tag().await?;
    let reference = format!("{REPOSITORY}:{tag}");
    let _held = IMPORT.lock().await;
    match engine.client().inspect_image(&reference).await {
        Ok(_) => return Ok(reference),
        Err(error) if absent(&error) => {}
        Err(error) => bail!("asking for image {reference}: {}", said(&error)),
    }
    import(engine, tag)
        .await
        .with_context(|| format!("importing image {reference}"))?;
    tracing::info!("image {reference} imported");
    forget_old(engine, &reference).await;
    Ok(reference)
}

/// First 12 hex digits of the SHA-256 of this program.
async fn tag() -> anyhow::Result<&'static str> {
    static TAG: OnceCell<String> = OnceCell::const_new();
    let tag = TAG
        .get_or_try_init(|| async {
            let digest = tokio::task::spawn_blocking(|| -> io::Result<_> {
                let mut file = File::open(SELF)?;
                let mut hash = Sha256::new();
                let mut piece = vec![0; PIECE];
                loop {
                    let n = file.read(&mut piece)?;
                    let Some(read) = piece.get(..n).filter(|read| !read.is_empty()) else {
                        return Ok(hash.finalize());
                    };
                    hash.update(read);
                }
            })
            .await?
            .context("reading the running program")?;
            anyhow::Ok(digest.iter().take(6).map(|b| format!("{b:02x}")).collect())
        })
        .await?;
    Ok(tag)
}

/// Sends the archive as it is made: it never lies in memory or on disk as a whole.
async fn import(engine: &Engine, tag: &str) -> anyhow::Result<()> {
    let (pieces, mut arriving) = mpsc::channel::<io::Result<Vec<u8>>>(4);
    let writer = tokio::task::spawn_blocking(move || {
        let mut out = io::BufWriter::with_capacity(PIECE, Pieces(pieces.clone()));
        let outcome = archive(&mut out).and_then(|()| out.flush());
        // Without this the engine would take half an archive for a whole one.
        if let Err(error) = outcome
            && pieces.blocking_send(Err(error)).is_err()
        {
            tracing::debug!("the engine stopped reading the image");
        }
    });
    let body = futures_util::stream::poll_fn(move |cx| arriving.poll_recv(cx))
        .map(|piece| piece.map(Into::into));
    let options = CreateImageOptionsBuilder::default()
        .from_src("-")
        .repo(REPOSITORY)
        .tag(tag)
        .build();
    let mut answers =
        engine
            .client()
            .create_image(Some(options), Some(bollard::body_try_stream(body)), None);
    while let Some(answer) = answers.next().await {
        answer.map_err(|error| anyhow::anyhow!(said(&error)))?;
    }
    drop(answers);
    writer.await.context("writing the image")
}

/// A root file system: the program and a few directories to mount on.
fn archive(out: &mut impl Write) -> io::Result<()> {
    let mut archive = tar::Builder::new(out);
    for name in DIRECTORIES {
        let mut header = header(0);
        header.set_entry_type(tar::EntryType::Directory);
        archive.append_data(&mut header, format!("{name}/"), io::empty())?;
    }
    let file = File::open(SELF)?;
    let mut header = header(file.metadata()?.len());
    archive.append_data(&mut header, PROGRAM.trim_start_matches('/'), file)?;
    archive.into_inner().map(|_| ())
}

/// Root's, readable by all, of no particular day: the same program is the same image.
fn header(size: u64) -> tar::Header {
    let mut header = tar::Header::new_ustar();
    header.set_mode(0o755);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(size);
    header
}

/// The sending end of the archive.
struct Pieces(mpsc::Sender<io::Result<Vec<u8>>>);

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0
            .blocking_send(Ok(bytes.to_vec()))
            .map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Removes images of other programs; the engine keeps those that have containers.
async fn forget_old(engine: &Engine, current: &str) {
    let filters = HashMap::from([("reference", vec![REPOSITORY])]);
    let options = ListImagesOptionsBuilder::default()
        .filters(&filters)
        .build();
    let images = match engine.client().list_images(Some(options)).await {
        Ok(images) => images,
        Err(error) => {
            tracing::debug!("listing old images: {}", said(&error));
            return;
        }
    };
    let tags = images.into_iter().flat_map(|image| image.repo_tags);
    for tag in tags.filter(|tag| tag != current) {
        let options = RemoveImageOptionsBuilder::default().build();
        match engine
            .client()
            .remove_image(&tag, Some(options), None)
            .await
        {
            Ok(_) => tracing::info!("image {tag} removed: nothing uses it"),
            Err(error) if conflict(&error) || absent(&error) => {}
            Err(error) => tracing::debug!("removing image {tag}: {}", said(&error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_archive_holds_the_program_and_places_to_mount_on() {
        let mut bytes = Vec::new();
        archive(&mut bytes).unwrap();
        let mut names = Vec::new();
        for entry in tar::Archive::new(bytes.as_slice()).entries().unwrap() {
            let entry = entry.unwrap();
            let header = entry.header();
            assert_eq!(header.mode().unwrap(), 0o755);
            assert_eq!((header.uid().unwrap(), header.gid().unwrap()), (0, 0));
            names.push(entry.path().unwrap().display().to_string());
        }
        let mut wanted: Vec<String> = DIRECTORIES.iter().map(|d| format!("{d}/")).collect();
        wanted.push("decnet".to_owned());
        assert_eq!(names, wanted);
    }

    #[tokio::test]
    async fn the_tag_follows_from_the_program() {
        let own = std::fs::read(SELF).unwrap();
        let digest = Sha256::digest(own);
        let wanted: String = digest.iter().take(6).map(|b| format!("{b:02x}")).collect();
        assert_eq!(tag().await.unwrap(), wanted);
    }
}
