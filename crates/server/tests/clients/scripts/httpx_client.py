"""httpx, in the ways people write it: one line a way, its name and the status or exception."""
import base64, os
import httpx

URL, KEY = os.environ["URL"], os.environ["KEY"]


def say(name, url=URL, auth=None, **more):
    try:
        auth = auth() if auth else None
        print(name, httpx.get(url, verify=False, timeout=20, auth=auth, trust_env=False, **more).status_code)
    except (TypeError, AttributeError) as error:
        print(name, type(error).__name__)


def with_user(user):
    return URL.replace("://", "://" + user + "@")


token = base64.b64encode((KEY + ":").encode()).decode()
say("no-key")
say("pair", auth=lambda: (KEY, ""))
say("basic-auth", auth=lambda: httpx.BasicAuth(KEY, ""))
say("pair-with-password", auth=lambda: (KEY, "x"))
say("pair-with-none", auth=lambda: (KEY, None))
say("key-as-password", auth=lambda: ("", KEY))
say("netrc", auth=lambda: httpx.NetRCAuth(os.environ["NETRC"]))
say("address-with-colon", with_user(KEY + ":"))
say("address-without-colon", with_user(KEY))
say("header", headers={"Authorization": "Basic " + token})
say("header-twice", headers=[("Authorization", "Basic " + token)] * 2)
with httpx.Client(verify=False, auth=(KEY, ""), timeout=20) as client:
    print("client", client.get(URL).status_code)
