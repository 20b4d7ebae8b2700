// The person in the browser: opens the link by which a caller of the gateway connects, says yes with the caller's
// credential, and goes wherever the authorization server and the gateway send it. As a browser it keeps cookies for their
// own origin and never looks into a page but for its form.

/** A link of the gateway in whatever a client was told. */
export function link(told) {
  return /https?:\/\/[^\s"\\]+\/connect\/[^\s"\\]+/.exec(String(told))?.[0];
}

const unescape = (text) =>
  text.replaceAll('&quot;', '"').replaceAll('&#39;', "'").replaceAll('&lt;', '<').replaceAll('&gt;', '>').replaceAll('&amp;', '&');

/** Opens `url` and says yes; throws with what the last page says where it is not the gateway's yes. */
export async function connect(url, credential) {
  const origin = new URL(url).origin;
  let cookie = '';
  const visit = async (where, options = {}) => {
    const own = new URL(where).origin === origin;
    const headers = { ...options.headers, ...(own && cookie ? { Cookie: cookie } : {}) };
    const answer = await fetch(where, { ...options, headers, redirect: 'manual' });
    const set = answer.headers.get('set-cookie');
    if (own && set) {
      cookie = set.split(';')[0];
    }
    return answer;
  };
  const page = await visit(url);
  const text = await page.text();
  if (page.status !== 200) {
    throw new Error(`the page answered ${page.status}: ${text}`);
  }
  const form = new URLSearchParams({ credential, answer: 'connect' });
  for (const [, name, value] of text.matchAll(/<input type="hidden" name="([a-z]+)" value="([^"]*)">/g)) {
    form.set(name, unescape(value));
  }
  const action = /<form method="post" action="([^"]+)">/.exec(text)[1];
  let answer = await visit(new URL(action, origin), { method: 'POST', body: form, headers: { Origin: origin } });
  for (let step = 0; step < 5 && answer.status >= 300 && answer.status < 400; step += 1) {
    answer = await visit(answer.headers.get('location'));
  }
  const last = await answer.text();
  if (answer.status !== 200) {
    throw new Error(`the last page answered ${answer.status}: ${last}`);
  }
}
