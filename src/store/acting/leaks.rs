//! Finds the keys of a store in a leaked text.

use super::Acting;
use crate::{
    audit_entry::Attempt, error::Error, scope::catalogue::ADMIN_KEY_LIST, secret_scan,
    store::leaked::LeakedKeys,
};
use std::collections::BTreeSet;

impl Acting<'_> {
    /// Finds the keys of this store in any text, such as a log or a file of a repository. Revokes nothing: pass
    /// the ids to [`revoke`](Self::revoke). An actor that is a key needs the scope `admin.key.list`.
    ///
    /// A key is found by its whole text, plain or as the base64 text of Basic authentication. Its public id alone
    /// proves nothing: a text with a right id and another secret counts as
    /// [`unknown`](LeakedKeys::unknown). So does a key that does not exist for an actor with an owner.
    /// The store keeps no copy of the text. The caller wipes it, for example with `zeroize`.
    ///
    /// ```
    /// # use portcullis::*;
    /// # let store = Store::builder().scopes(portcullis::scope::catalogue::financial_data()).in_memory()?;
    /// # let issued = store.issue(NewKey::new("a", store.scopes(["api.read"])?, Expiry::Never))?;
    /// let log = issued.secret.reveal(|key| format!("GET /v1/ledger?key={key} 200"));
    /// let acting = store.acting_as(Actor::Host);
    /// for record in acting.find_leaked(log.as_bytes())?.records {
    ///     acting.revoke(record.id)?;
    /// }
    /// assert!(!store.get(issued.record.id)?.active);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn find_leaked(&self, text: &[u8]) -> Result<LeakedKeys, Error> {
        let authority = self.require(Attempt::List, None, &ADMIN_KEY_LIST)?;
        let (core, prefix) = (self.caller().core, self.store.prefix());
        let (mut leaked, mut seen) = (LeakedKeys::default(), BTreeSet::new());
        secret_scan::each_key(prefix, text, |key| {
            let digest = core.seals.digester.digest(key);
            if !seen.insert(*digest.as_bytes()) {
                return;
            }
            let id = str::from_utf8(key).ok().and_then(|key| prefix.id_within(key));
            match id.and_then(|id| core.index.get(id)) {
                // The id is public, so only the whole digest counts.
                Some((record, stored))
                    if stored == digest && authority.sees(record.owner.as_deref()) =>
                {
                    leaked.records.push(self.shown(record));
                }
                _ => leaked.unknown += 1,
            }
        });
        Ok(leaked)
    }
}

#[cfg(test)]
mod tests {
    use crate::{
        Actor, Error, KeyId, Prefix, Secret,
        scope::catalogue::financial_data,
        store::{Store, tests::new_key},
    };

    fn store() -> Store {
        Store::builder().scopes(financial_data()).in_memory().unwrap()
    }

    fn issue(store: &Store, owner: Option<&str>) -> (KeyId, String) {
        let mut new = new_key(store, &["api.read"], true);
        new.owner = owner.map(str::to_owned);
        let issued = store.issue(new).unwrap();
        (issued.record.id, issued.secret.reveal(str::to_owned))
    }

    fn found(store: &Store, by: Actor, text: &str) -> (Vec<KeyId>, usize) {
        let leaked = store.acting_as(by).find_leaked(text.as_bytes()).unwrap();
        (leaked.records.iter().map(|record| record.id).collect(), leaked.unknown)
    }

    #[test]
    fn each_leaked_key_is_found_once_also_if_it_is_inactive() {
        let store = store();
        let ((first, one), (second, two)) = (issue(&store, None), issue(&store, None));
        store.revoke(second).unwrap();
        let text = format!("a={one}\n{two}{one}");
        assert_eq!(found(&store, Actor::Host, &text), (vec![first, second], 0));
        // A search is no use of a key.
        assert_eq!(store.last_used(first), None);
    }

    #[test]
    fn right_id_with_another_secret_is_no_key_of_the_store() {
        let store = store();
        let (id, key) = issue(&store, None);
        let forged = Secret::generate(Prefix::default(), id).unwrap().reveal(str::to_owned);
        assert_eq!(forged[..15], key[..15]);
        assert_eq!(found(&store, Actor::Host, &forged), (vec![], 1));
        assert_eq!(found(&store, Actor::Host, &store.prefix().hint(id)), (vec![], 0));
        store.revoke(id).unwrap();
        store.delete(id).unwrap();
        assert_eq!(found(&store, Actor::Host, &key), (vec![], 1));
    }

    #[test]
    fn key_of_another_owner_counts_as_unknown_and_the_scope_to_list_is_required() {
        let store = store();
        let (own, one) = issue(&store, Some("shop"));
        let (_, two) = issue(&store, Some("bank"));
        let clerk = new_key(&store, &["admin.key.list"], true).with_owner("shop");
        let clerk = Actor::Key(store.issue(clerk).unwrap().record.id);
        assert_eq!(found(&store, clerk, &format!("{one} {two}")), (vec![own], 1));
        let plain = store.acting_as(Actor::Key(own)).find_leaked(one.as_bytes());
        assert!(matches!(plain, Err(Error::Forbidden(_))), "{plain:?}");
    }
}
