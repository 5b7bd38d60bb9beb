//! A small accounting platform that embeds Portcullis: a Data API, an Administration API, and the
//! administration of its keys, in one process.
//!
//! ```sh
//! cargo run -p portcullis-admin --example business_accounts             # keys in memory
//! cargo run -p portcullis-admin --example business_accounts -- ./keys   # keys in ./keys
//! ```
//!
//! It serves plain HTTP on the local host only. In production, use TLS, in the server or in a proxy
//! (see `deploy/`): a key must not be sent unencrypted.
//!
//! Each scope of the preset for financial data guards a route. A route without a scope, or a route of the
//! Data API with a scope of the Administration API, does not compile.

use axum::{
    Json, Router,
    extract::{FromRef, Path, State},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::{delete, get, patch, post},
};
use portcullis::{
    Store,
    scope::catalogue::financial_data,
    web::{
        AdministrationApi, ApiKey, DataApi,
        scopes::{
            AdminAccountCreate, AdminAccountList, AdminAccountUpdate, AdminConnectionDisconnect,
            AdminConnectionHealth, AdminEmbedToken, ApiRead, ApiWrite,
        },
    },
};
use portcullis_admin as admin;
use rand::{TryRng, rngs::SysRng};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    error::Error,
    fmt::Write,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

// ── the data of the platform; a real platform has a database

#[derive(Clone)]
pub(crate) struct Platform {
    keys: Store,
    books: Arc<Mutex<Books>>,
}

#[derive(Default)]
struct Books {
    accounts: BTreeMap<String, Account>,
    /// The account that a page with this token may show.
    embed_tokens: BTreeMap<String, String>,
}

#[derive(Clone, Serialize)]
struct Account {
    name: String,
    active: bool,
    #[serde(skip)]
    connections: BTreeMap<String, Connection>,
    #[serde(skip)]
    ledgers: BTreeMap<String, Vec<Entry>>,
}

/// A connection of an account to an external service.
#[derive(Clone, Serialize)]
struct Connection {
    healthy: bool,
    detail: String,
}

#[derive(Clone, Serialize, Deserialize)]
struct Entry {
    text: String,
    cents: i64,
}

/// Gives the extractor access to the store.
impl FromRef<Platform> for Store {
    fn from_ref(platform: &Platform) -> Self {
        platform.keys.clone()
    }
}

impl Platform {
    pub(crate) fn new(keys: Store) -> Self {
        let healthy = Connection { healthy: true, detail: "last synchronised a minute ago".into() };
        let broken =
            Connection { healthy: false, detail: "the bank asks for a new consent".into() };
        let rent = Entry { text: "Rent".into(), cents: -120_000 };
        let first = Account {
            name: "Bakery".into(),
            active: true,
            connections: [("bank".into(), broken), ("tax-office".into(), healthy)].into(),
            ledgers: [("2026".into(), vec![rent])].into(),
        };
        let books = Books { accounts: [("acct-1".into(), first)].into(), ..Books::default() };
        Self { keys, books: Arc::new(Mutex::new(books)) }
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// ── the routes

pub(crate) fn app(platform: &Platform) -> Router {
    let data: Router<Platform> = DataApi::new(platform.clone())
        .route(ApiRead, "/accounts/{account}/ledgers", get(ledgers))
        .route(ApiRead, "/accounts/{account}/ledgers/{ledger}", get(entries))
        .route(ApiWrite, "/accounts/{account}/ledgers/{ledger}", post(add_entry))
        .into();
    let administration: Router<Platform> = AdministrationApi::new(platform.clone())
        .route(AdminAccountCreate, "/accounts", post(create_account))
        .route(AdminAccountList, "/accounts", get(accounts))
        .route(AdminAccountUpdate, "/accounts/{account}", patch(update_account))
        .route(AdminConnectionHealth, "/accounts/{account}/connections", get(connections))
        .route(
            AdminConnectionDisconnect,
            "/accounts/{account}/connections/{connection}",
            delete(disconnect),
        )
        .route(AdminEmbedToken, "/accounts/{account}/embed-tokens", post(embed_token))
        .into();
    Router::new()
        .nest("/data", data)
        .nest("/admin", administration)
        // For a page of the customer: the token names the account, so no key is needed.
        .route("/embed/{token}", get(embedded))
        .with_state(platform.clone())
        // Administration of the keys: create, list, change and revoke them.
        .nest("/keys-admin", admin::router(platform.keys.clone()))
}

// ── the Data API

/// Returns the ledgers of an account and their balances.
///
/// A key with an owner has access to that account only. axum calls this handler only with a valid
/// key, which the argument `key` proves.
async fn ledgers(
    State(platform): State<Platform>,
    key: ApiKey<ApiRead>,
    Path(account): Path<String>,
) -> Result<Response, Failure> {
    check_owner(&platform, &key, &account)?;
    Ok(Json(balances(platform.books().active(&account)?)).into_response())
}

async fn entries(
    State(platform): State<Platform>,
    key: ApiKey<ApiRead>,
    Path((account, ledger)): Path<(String, String)>,
) -> Result<Json<Vec<Entry>>, Failure> {
    check_owner(&platform, &key, &account)?;
    let books = platform.books();
    let entries = books.active(&account)?.ledgers.get(&ledger).ok_or(Failure::NotFound)?;
    Ok(Json(entries.clone()))
}

async fn add_entry(
    State(platform): State<Platform>,
    key: ApiKey<ApiWrite>,
    Path((account, ledger)): Path<(String, String)>,
    Json(entry): Json<Entry>,
) -> Result<StatusCode, Failure> {
    check_owner(&platform, &key, &account)?;
    let mut books = platform.books();
    books.active(&account)?;
    books.account(&account)?.ledgers.entry(ledger).or_default().push(entry);
    Ok(StatusCode::CREATED)
}

fn check_owner<S>(platform: &Platform, key: &ApiKey<S>, account: &str) -> Result<(), Failure> {
    // From memory, like the check of the key itself.
    let record = platform.keys.get(key.id()).map_err(|_| Failure::NotFound)?;
    match &record.owner {
        Some(owner) if owner != account => Err(Failure::NotFound),
        _ => Ok(()),
    }
}

// ── the Administration API

#[derive(Deserialize)]
struct NewAccount {
    name: String,
}

#[derive(Deserialize)]
struct AccountChange {
    name: Option<String>,
    active: Option<bool>,
}

async fn create_account(
    State(platform): State<Platform>,
    Json(new): Json<NewAccount>,
) -> impl IntoResponse {
    let mut books = platform.books();
    let id = format!("acct-{}", books.accounts.len() + 1);
    let account = Account {
        name: new.name,
        active: true,
        connections: BTreeMap::new(),
        ledgers: BTreeMap::new(),
    };
    books.accounts.insert(id.clone(), account.clone());
    (StatusCode::CREATED, Json(BTreeMap::from([(id, account)])))
}

async fn accounts(State(platform): State<Platform>) -> impl IntoResponse {
    Json(platform.books().accounts.clone())
}

async fn update_account(
    State(platform): State<Platform>,
    Path(account): Path<String>,
    Json(change): Json<AccountChange>,
) -> Result<Json<Account>, Failure> {
    let mut books = platform.books();
    let account = books.account(&account)?;
    if let Some(name) = change.name {
        account.name = name;
    }
    if let Some(active) = change.active {
        account.active = active;
    }
    Ok(Json(account.clone()))
}

async fn connections(
    State(platform): State<Platform>,
    Path(account): Path<String>,
) -> Result<Json<BTreeMap<String, Connection>>, Failure> {
    Ok(Json(platform.books().account(&account)?.connections.clone()))
}

async fn disconnect(
    State(platform): State<Platform>,
    Path((account, connection)): Path<(String, String)>,
) -> Result<StatusCode, Failure> {
    let removed = platform.books().account(&account)?.connections.remove(&connection);
    removed.map(|_| StatusCode::NO_CONTENT).ok_or(Failure::NotFound)
}

async fn embed_token(
    State(platform): State<Platform>,
    Path(account): Path<String>,
) -> Result<impl IntoResponse, Failure> {
    let mut bytes = [0; 16];
    SysRng.try_fill_bytes(&mut bytes).map_err(|_| Failure::NoRandomness)?;
    let token = bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    });
    let mut books = platform.books();
    books.active(&account)?;
    books.embed_tokens.insert(token.clone(), account);
    Ok((StatusCode::CREATED, Json(BTreeMap::from([("token", token)]))))
}

async fn embedded(
    State(platform): State<Platform>,
    Path(token): Path<String>,
) -> Result<Response, Failure> {
    let books = platform.books();
    let account = books.embed_tokens.get(&token).ok_or(Failure::NotFound)?;
    Ok(Json(balances(books.active(account)?)).into_response())
}

// ── helpers

impl Books {
    fn account(&mut self, id: &str) -> Result<&mut Account, Failure> {
        self.accounts.get_mut(id).ok_or(Failure::NotFound)
    }

    fn active(&self, id: &str) -> Result<&Account, Failure> {
        let account = self.accounts.get(id).ok_or(Failure::NotFound)?;
        if account.active { Ok(account) } else { Err(Failure::Deactivated) }
    }
}

fn balances(account: &Account) -> BTreeMap<String, i64> {
    let sum = |entries: &Vec<Entry>| entries.iter().map(|entry| entry.cents).sum();
    account.ledgers.iter().map(|(name, entries)| (name.clone(), sum(entries))).collect()
}

enum Failure {
    NotFound,
    Deactivated,
    NoRandomness,
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let (status, message) = match self {
            Self::NotFound => (StatusCode::NOT_FOUND, "nothing has this name"),
            Self::Deactivated => (StatusCode::CONFLICT, "the business account is deactivated"),
            Self::NoRandomness => (StatusCode::SERVICE_UNAVAILABLE, "try again shortly"),
        };
        (status, Json(BTreeMap::from([("message", message)]))).into_response()
    }
}

// ── the program

/// Issues a root key and returns its text, unless the store has keys already.
pub(crate) fn first_key(store: &Store) -> Result<Option<String>, portcullis::Error> {
    let first = store.issue_first_key_of_opened("root")?;
    Ok(first.map(|issued| issued.secret.reveal(str::to_owned)))
}

/// Returns commands to try, one for each line.
pub(crate) fn commands(address: SocketAddr, root: &str) -> String {
    let at = format!("http://{address}");
    let curl = format!("curl -u {root}:");
    let json = "-H 'content-type: application/json'";
    format!(
        "\
# Create a key for the bakery, with read access. It is shown only once.
{curl} {at}/keys-admin/v1/keys {json} -d '{{\"name\":\"Bakery\",\"scopes\":[\"api.read\"],\"owner\":\"acct-1\"}}'

# The Data API
{curl} {at}/data/accounts/acct-1/ledgers
{curl} {at}/data/accounts/acct-1/ledgers/2026 {json} -d '{{\"text\":\"Bread\",\"cents\":450}}'
{curl} {at}/data/accounts/acct-1/ledgers/2026

# The Administration API
{curl} {at}/admin/accounts {json} -d '{{\"name\":\"Florist\"}}'
{curl} {at}/admin/accounts
{curl} {at}/admin/accounts/acct-2 {json} -X PATCH -d '{{\"active\":false}}'
{curl} {at}/admin/accounts/acct-1/connections
{curl} {at}/admin/accounts/acct-1/connections/bank -X DELETE
{curl} {at}/admin/accounts/acct-1/embed-tokens -X POST
"
    )
}

#[cfg_attr(test, expect(dead_code, reason = "the API tests include this file and call its parts"))]
#[expect(clippy::print_stdout, reason = "an example prints what to try")]
#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let store = Store::builder().scopes(financial_data());
    let store = match std::env::args_os().nth(1) {
        Some(directory) => store.open(directory)?,
        None => store.in_memory()?,
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:3000").await?;
    let address = listener.local_addr()?;
    println!("Listening at http://{address}, on the local host only; in production, use TLS.\n");
    let text = match first_key(&store)? {
        Some(root) => {
            format!(
                "The root key, which is shown only once: {root}\n\n{}",
                commands(address, &root)
            )
        }
        None => "The store already has keys, so no root key was issued.".into(),
    };
    println!("{text}");
    let app = app(&Platform::new(store));
    // The audit log records the address of the peer.
    axum::serve(listener, app.into_make_service_with_connect_info::<SocketAddr>()).await?;
    Ok(())
}
