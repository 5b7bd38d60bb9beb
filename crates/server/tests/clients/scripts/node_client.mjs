// Node's fetch and https.request, in the ways people write them: one line a way, its name and the
// status or exception. The certificate is not verified: NODE_TLS_REJECT_UNAUTHORIZED=0.
import https from 'node:https';

const { URL: url, KEY: key } = process.env;
const withUser = (user) => url.replace('://', `://${user}@`);

async function say(name, work) {
  let said;
  try {
    said = await work();
  } catch (error) {
    said = error.name;
  }
  console.log(name, said);
}

const status = async (...request) => (await fetch(...request)).status;
const basic = (text) => ({ headers: { Authorization: 'Basic ' + btoa(text) } });
const request = (options, address = url) =>
  new Promise((resolve, reject) => {
    https
      .request(address, options, (answer) => {
        answer.resume();
        resolve(answer.statusCode);
      })
      .on('error', reject)
      .end();
  });

await say('fetch-no-key', () => status(url));
await say('fetch-btoa-with-colon', () => status(url, basic(key + ':')));
await say('fetch-btoa-without-colon', () => status(url, basic(key)));
await say('fetch-btoa-with-password', () => status(url, basic(key + ':x')));
await say('fetch-buffer', () =>
  status(url, { headers: { Authorization: 'Basic ' + Buffer.from(key + ':').toString('base64') } }));
await say('fetch-base64url-without-padding', () =>
  status(url, { headers: { Authorization: 'Basic ' + Buffer.from(key + ':').toString('base64url') } }));
await say('fetch-append-twice', () => {
  const headers = new Headers();
  headers.append('Authorization', 'Basic ' + btoa(key + ':'));
  headers.append('Authorization', 'Basic ' + btoa(key + ':'));
  return status(url, { headers });
});
await say('fetch-address', () => status(withUser(key)));
await say('request-auth', () => request({ auth: key }));
await say('request-auth-with-colon', () => request({ auth: key + ':' }));
await say('request-auth-with-password', () => request({ auth: key + ':x' }));
await say('request-auth-key-as-password', () => request({ auth: ':' + key }));
await say('request-address', () => request({}, withUser(key)));
await say('request-header', () => request(basic(key + ':')));
await say('request-header-twice', () => {
  const value = 'Basic ' + btoa(key + ':');
  return request({ headers: ['Host', 'localhost', 'Authorization', value, 'Authorization', value] });
});
