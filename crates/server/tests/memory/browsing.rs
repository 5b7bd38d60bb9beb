//! The portal: a key in the login form, new keys on its pages.

use crate::{
    http1::{Answer, Http1, with_headers},
    servers::{Servers, id_of, keys_in, wrong},
};

type Named = (&'static str, fn(&Servers) -> Vec<String>);

pub(crate) const SCENES: &[Named] = &[
    ("portal: log in, read, log out", read),
    ("portal: wrong and revoked key", refused),
    ("portal: create and rotate", create),
    ("portal: key in a field of a form", misplaced),
    ("portal: login over HTTP/2, truncated", over_http2),
];

const FORM: &str = "application/x-www-form-urlencoded";

struct Browser<'s> {
    servers: &'s Servers,
    connection: Http1,
    cookie: String,
}

impl<'s> Browser<'s> {
    fn new(servers: &'s Servers) -> Self {
        Self { servers, connection: servers.http1(), cookie: String::new() }
    }

    fn post(&mut self, path: &str, body: &str) -> Answer {
        self.ask("POST", path, body)
    }

    fn get(&mut self, path: &str) -> Answer {
        self.ask("GET", path, "")
    }

    fn ask(&mut self, method: &str, path: &str, body: &str) -> Answer {
        let mut headers = vec![
            format!("Origin: {}", self.servers.server.url),
            "Sec-Fetch-Site: same-origin".into(),
        ];
        if !self.cookie.is_empty() {
            headers.push(format!("Cookie: {}", self.cookie));
        }
        let answer = self.connection.ask(&with_headers(method, path, &headers, FORM, body));
        if let Some((_, cookie)) = answer.head.split_once("set-cookie: ") {
            // The client converts heads to lower case, which a cookie must not be.
            self.cookie = cookie.split(';').next().unwrap().replace("__host-", "__Host-");
        }
        answer
    }

    fn log_in(&mut self, key: &str) -> Answer {
        self.post("/login", &format!("username=admin&key={key}"))
    }

    fn close(self) {
        self.connection.close();
    }
}

/// The hidden inputs of the page's form for this address, as a browser sends them.
fn hidden(page: &Answer, address: &str) -> String {
    let form = format!(r#"action="{address}""#);
    let (_, rest) = page.body.split_once(&form).unwrap_or_else(|| panic!("{page:?}"));
    let (form, _) = rest.split_once("</form>").unwrap();
    let inputs = form.split(r#"type="hidden" name=""#).skip(1).filter_map(|input| {
        let (name, rest) = input.split_once('"')?;
        let (value, _) = rest.strip_prefix(r#" value=""#)?.split_once('"')?;
        Some(format!("{name}={value}"))
    });
    inputs.collect::<Vec<_>>().join("&")
}

fn read(servers: &Servers) -> Vec<String> {
    let (key, target) = (servers.admin(), servers.key());
    let mut browser = Browser::new(servers);
    assert_eq!(browser.log_in(&key).status, 303);
    let id = id_of(&target);
    for path in ["/", "/keys/new", "/audit", &format!("/keys/{id}"), &format!("/keys/{id}/delete")]
    {
        let answer = browser.get(path);
        assert!([200, 303, 409].contains(&answer.status), "{path}: {answer:?}");
    }
    assert_eq!(browser.post("/logout", "").status, 303);
    browser.close();
    vec![key, target]
}

fn refused(servers: &Servers) -> Vec<String> {
    let (unknown, revoked, weak) = (wrong(&servers.key()), servers.inactive(), servers.key());
    for key in [&unknown, &revoked, &weak] {
        let mut browser = Browser::new(servers);
        let answer = browser.log_in(key);
        assert!([401, 403, 429].contains(&answer.status), "{answer:?}");
        browser.close();
    }
    vec![unknown, revoked, weak]
}

fn create(servers: &Servers) -> Vec<String> {
    let key = servers.admin();
    let mut browser = Browser::new(servers);
    assert_eq!(browser.log_in(&key).status, 303);
    let form = hidden(&browser.get("/keys/new"), "/keys");
    let made =
        browser.post("/keys", &format!("{form}&name=new&scope=api.read&active=yes&expires="));
    let new = keys_in(&made.body);
    assert!(!new.is_empty(), "{made:?}");
    let path = format!("/keys/{}/rotate", id_of(&new[0]));
    let form = hidden(&browser.get(&path), &path);
    let rotated = browser.post(&path, &format!("{form}&grace=0"));
    let newer = keys_in(&rotated.body);
    assert!(!newer.is_empty(), "{rotated:?}");
    browser.close();
    [vec![key], new, newer].concat()
}

fn misplaced(servers: &Servers) -> Vec<String> {
    let (key, pasted) = (servers.admin(), servers.key());
    let mut browser = Browser::new(servers);
    assert_eq!(browser.log_in(&key).status, 303);
    let form = hidden(&browser.get("/keys/new"), "/keys");
    browser.post("/keys", &format!("{form}&name={pasted}&scope={pasted}&expires={pasted}"));
    browser.get(&format!("/?q={pasted}"));
    browser.get(&format!("/keys/{pasted}"));
    browser.get(&format!("/audit?key={pasted}"));
    browser.post("/login", &format!("key={pasted}&key={pasted}&{pasted}={pasted}"));
    browser.close();
    vec![key, pasted]
}

fn over_http2(servers: &Servers) -> Vec<String> {
    let key = servers.admin();
    let headers = [("content-type", FORM), ("sec-fetch-site", "same-origin")];
    let mut two = servers.http2();
    let body = format!("username=admin&key={key}");
    let answer = two.ask_with("POST", "/login", &headers, &body, crate::http2::Coding::Literal);
    assert_eq!(answer.status, 303, "{answer:?}");
    let id = two.begin("POST", "/login", &headers, crate::http2::Coding::Literal, false);
    two.data(id, &body[..body.len() - 4], false);
    drop(two);
    vec![key]
}
