// A client on node: its http module with an agent that keeps connections.
//
//   node client.js HOST:PORT FOLDER KIND
//
// Makes one connection for what comes one after another, then eight at once.

'use strict';
const http = require('http');
const fs = require('fs');
const path = require('path');
const crypto = require('crypto');
const assert = require('assert');

const [, , address, folder, kind] = process.argv;
const [host, port] = address.split(':');
const sha256 = (bytes) => crypto.createHash('sha256').update(bytes).digest('hex');
const small = fs.readFileSync(path.join(folder, 'small'));
const large = fs.readFileSync(path.join(folder, 'large'));

function ask(agent, method, target, headers = {}, pieces = []) {
  return new Promise((resolve, reject) => {
    let continued = false;
    const request = http.request({ agent, host, port, method, path: target, headers });
    const send = () => {
      for (const piece of pieces) request.write(piece);
      request.end();
    };
    request.on('error', reject);
    request.on('response', (response) => {
      const body = [];
      response.on('data', (piece) => body.push(piece));
      response.on('error', reject);
      response.on('end', () => {
        assert(response.complete, `${method} ${target} is whole`);
        resolve({ ...response, status: response.statusCode, headers: response.headers,
          trailers: response.trailers, continued, body: Buffer.concat(body) });
      });
    });
    if (headers.Expect) {
      request.on('continue', () => {
        continued = true;
        send();
      });
      request.flushHeaders();
    } else send();
  });
}

async function post(agent, headers, pieces) {
  const answer = await ask(agent, 'POST', '/echo', headers, pieces);
  assert.strictEqual(answer.status, 200);
  const seen = JSON.parse(answer.body);
  const sent = Buffer.concat(pieces);
  assert.deepStrictEqual([seen.method, seen.length, seen.sha256], ['POST', sent.length, sha256(sent)]);
  return answer;
}

async function oneAfterAnother(agent) {
  let answer = await ask(agent, 'GET', '/small');
  assert.deepStrictEqual([answer.status, answer.body], [200, small]);
  answer = await ask(agent, 'HEAD', '/small');
  assert.deepStrictEqual([answer.status, answer.headers['content-length']], [200, String(small.length)]);
  assert.strictEqual(answer.body.length, 0);
  await post(agent, { 'Content-Length': small.length }, [small]);
  await post(agent, { 'Content-Length': large.length }, [large]);
  await post(agent, {}, [small, Buffer.from('x'), large]);
  answer = await post(agent, { Expect: '100-continue', 'Content-Length': large.length }, [large]);
  assert(answer.continued, 'the body was asked for');
  answer = await post(agent, { Expect: '100-continue' }, [small, large]);
  assert(answer.continued, 'the body was asked for');
  for (const target of ['/large', '/chunked']) {
    answer = await ask(agent, 'GET', target);
    assert.strictEqual(sha256(answer.body), sha256(large), target);
    const framing = target === '/large' ? answer.headers['content-length'] : answer.headers['transfer-encoding'];
    assert.strictEqual(framing, target === '/large' ? String(large.length) : 'chunked');
  }
  if (kind === 'node') assert.strictEqual(answer.trailers['x-sha256'], sha256(large), 'the trailer');
  answer = await ask(agent, 'GET', '/nothing');
  assert.strictEqual(answer.status, 404);
}

async function manyAtOnce(agent) {
  const get = async () => assert((await ask(agent, 'GET', '/small')).body.equals(small));
  const asked = [];
  for (let n = 0; n < 400; n++) {
    asked.push(n % 2 ? get() : post(agent, {}, [small, Buffer.from(String(n))]));
  }
  // All of them: whatever still ran would be cut off with the agent.
  await Promise.all(asked);
}

(async () => {
  const one = new http.Agent({ keepAlive: true, maxSockets: 1 });
  await oneAfterAnother(one);
  one.destroy();
  const eight = new http.Agent({ keepAlive: true, maxSockets: 8 });
  await manyAtOnce(eight);
  eight.destroy();
})().catch((error) => {
  console.error(error);
  process.exit(1);
});
