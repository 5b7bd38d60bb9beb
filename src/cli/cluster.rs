//! `cluster`: keys into etcd, and back.

use super::{
    args::Place,
    etcd::{ClusterCommand, Import},
    failure::Failure,
    output,
    progress::Bar,
};
use portcullis::{Builder, backup::Summary, cluster::Etcd};
use std::{fs::File, io, path::Path, process::ExitCode, thread};

pub(crate) fn run(place: &Place, asked: &ClusterCommand) -> Result<ExitCode, Failure> {
    if !place.etcd.are_given() {
        return Err(Failure::usage("name the nodes of the cluster with --etcd"));
    }
    let etcd = place.etcd.reach()?;
    let (summary, said) = match asked {
        ClusterCommand::Import(Import { from }) => (import(place, &etcd, from)?, "imported"),
        ClusterCommand::Export => {
            let bar = Bar::new();
            let told = |told| bar.tell(told);
            let summary = place.builder()?.export_from(&etcd, &place.data, told)?;
            bar.done();
            (summary, "exported")
        }
    };
    let Summary { records, sequence, .. } = summary;
    output::say(&format!("{said} {records} keys as of change {sequence}"));
    Ok(ExitCode::SUCCESS)
}

fn import(place: &Place, etcd: &Etcd, from: &Path) -> Result<Summary, Failure> {
    let bar = Bar::new();
    let builder = place.builder()?;
    let summary = if from.is_dir() {
        from_directory(place, &builder, etcd, from, &bar)?
    } else {
        let doing = format!("opening the backup {}", from.display());
        let file = File::open(from).map_err(Failure::io(doing))?;
        builder.import_to(etcd, io::BufReader::new(file), |told| bar.tell(told))?
    };
    bar.done();
    Ok(summary)
}

/// While the directory is open here, no server changes it.
fn from_directory(
    place: &Place,
    builder: &Builder,
    etcd: &Etcd,
    from: &Path,
    bar: &Bar,
) -> Result<Summary, Failure> {
    let store = place.builder()?.open_existing(from)?;
    let (reader, writer) = io::pipe().map_err(Failure::io("making a pipe"))?;
    thread::scope(|scope| {
        let taking = scope.spawn(move || store.backup(io::BufWriter::new(writer), |_| ()));
        let imported = builder.import_to(etcd, io::BufReader::new(reader), |told| bar.tell(told));
        // A backup that broke off says why; the import only sees that it did.
        if let Ok(Err(error)) = taking.join()
            && imported.is_err()
            && !matches!(error, portcullis::Error::Io { .. })
        {
            return Err(error.into());
        }
        Ok(imported?)
    })
}
