//! Opens a store as one of the replicas that share it.

use super::{builder::Builder, core::Core, handle::Store, uses, writer::Writer};
use crate::{
    cluster::{
        ConsensusStore, Replica,
        timing::Timing,
        worker::{self, StartOptions},
    },
    error::Error,
    gate::SteadyClock,
    ledger::{Mode, known_uses::StoredKnownUses},
};
use std::sync::Arc;

impl Builder {
    /// Opens the store that replicas share in a consensus store, or creates it.
    ///
    /// Only the pepper, prefix and scopes of the builder are used. A service whose store must exist calls
    /// [`open_cluster`](Self::open_cluster). The crate `portcullis-etcd` has a consensus store for etcd.
    ///
    /// ```
    /// use portcullis::{Error, Store, cluster::{ConsensusStore, Replica}};
    ///
    /// fn open(consensus: impl ConsensusStore) -> Result<Store, Error> {
    ///     Store::builder().cluster(consensus, Replica::named("till-4"))
    /// }
    /// ```
    pub fn cluster<C: ConsensusStore>(
        self,
        consensus: C,
        replica: Replica,
    ) -> Result<Store, Error> {
        self.shared(consensus, replica, Mode::OpenOrCreate)
    }

    /// Opens the store that replicas share in a consensus store; [`Error::NotFound`] if there is none.
    pub fn open_cluster<C: ConsensusStore>(
        self,
        consensus: C,
        replica: Replica,
    ) -> Result<Store, Error> {
        self.shared(consensus, replica, Mode::Open)
    }

    /// Creates a store in a consensus store and opens it; [`Error::AlreadyExists`] if there is one.
    pub fn create_cluster<C: ConsensusStore>(
        self,
        consensus: C,
        replica: Replica,
    ) -> Result<Store, Error> {
        self.shared(consensus, replica, Mode::Create)
    }

    /// Opens the store that replicas share in a consensus store.
    pub(super) fn shared<C: ConsensusStore>(
        self,
        consensus: C,
        replica: Replica,
        mode: Mode,
    ) -> Result<Store, Error> {
        let (seals, info) = (self.pepper.seals()?, replica.info()?);
        let timing = Timing::new(info.freshness, SteadyClock::System);
        let (handle, worker) = worker::new(Arc::clone(&seals));
        let ledger = Box::new(handle);
        let core = Arc::new(Core::following(ledger, SteadyClock::System, seals, self.scopes)?);
        let options = StartOptions { timing, info, mode, prefix: self.prefix };
        let prefix = worker.start(consensus, Arc::clone(&core), options)?;
        let writer = Writer::begin(core, uses::SHARED_INTERVAL)?;
        writer.number_names()?;
        writer.begin_known_uses(StoredKnownUses::default())?;
        let (credentials, is_created) = (self.credentials, mode == Mode::Create);
        Ok(Store { writer: Arc::new(writer), prefix, credentials, is_created })
    }
}
