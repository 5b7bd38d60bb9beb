"""urllib, in the ways people write it: one line a way, its name and the status."""
import base64, os, ssl, urllib.error, urllib.request

URL, KEY = os.environ["URL"], os.environ["KEY"]
TLS = urllib.request.HTTPSHandler(context=ssl._create_unverified_context())


def say(name, request, *handlers):
    try:
        with urllib.request.build_opener(TLS, *handlers).open(request, timeout=20) as answer:
            print(name, answer.status)
    except urllib.error.HTTPError as error:
        print(name, error.code)


def managed(manager, user, password, **more):
    manager.add_password(None, URL, user, password, **more)
    return urllib.request.HTTPBasicAuthHandler(manager)


def basic(text):
    token = base64.b64encode(text.encode()).decode()
    return urllib.request.Request(URL, headers={"Authorization": "Basic " + token})


realm = urllib.request.HTTPPasswordMgrWithDefaultRealm
prior = urllib.request.HTTPPasswordMgrWithPriorAuth
say("no-key", URL)
say("handler-after-challenge", URL, managed(realm(), KEY, ""))
say("handler-at-once", URL, managed(prior(), KEY, "", is_authenticated=True))
say("header", basic(KEY + ":"))
say("header-without-colon", basic(KEY))
say("header-with-password", basic(KEY + ":x"))
say("key-as-password", basic(":" + KEY))
