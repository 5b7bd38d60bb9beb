"""requests, in the ways people write it: one line a way, its name and the status or exception."""
import base64, os, warnings
import requests
from requests.auth import HTTPBasicAuth

warnings.simplefilter("ignore")
URL, KEY = os.environ["URL"], os.environ["KEY"]
NETRC = os.environ.pop("NETRC")


def say(name, url=URL, **more):
    try:
        print(name, requests.get(url, verify=False, timeout=20, **more).status_code)
    except (TypeError, ValueError) as error:
        print(name, type(error).__name__)


def with_user(user):
    return URL.replace("://", "://" + user + "@")


token = base64.b64encode((KEY + ":").encode()).decode()
say("no-key")
say("pair", auth=(KEY, ""))
say("basic-auth", auth=HTTPBasicAuth(KEY, ""))
say("pair-with-none", auth=(KEY, None))
say("pair-with-password", auth=(KEY, "x"))
say("key-as-password", auth=("", KEY))
say("bare-string", auth=KEY)
say("address-with-colon", with_user(KEY + ":"))
say("address-without-colon", with_user(KEY))
say("header", headers={"Authorization": "Basic " + token})
say("bearer", headers={"Authorization": "Bearer " + KEY})
session = requests.Session()
session.auth = (KEY, "")
print("session", session.get(URL, verify=False, timeout=20).status_code)
os.environ["NETRC"] = NETRC
say("netrc")
