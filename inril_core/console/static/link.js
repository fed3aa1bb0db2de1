/** The connection to the console: one WebSocket, opened again when it is lost. */

const RETRY_MS = 1000;
const SILENT_MS = 2000; // beats come every 50 ms; the page may allow for more
const ANSWER_MS = 5000; // the console answers a stop within 4 s, whatever hangs behind it

export class Link {
  /** handlers: message(object), frame(head, blob), state(name, text) with name open, lost, refused. */
  constructor(handlers) {
    this.handlers = handlers;
    this.beat = 0;
    this.heardAt = 0;
    this.socket = null;
    this.silentMs = SILENT_MS;
  }

  open(token, name) {
    this.token = token;
    this.name = name;
    this.connect();
  }

  get isOpen() {
    return this.socket !== null && this.socket.readyState === WebSocket.OPEN;
  }

  async connect() {
    const answer = await this.ask("/check", "GET");
    if (answer !== null && answer.status === 401) {
      this.handlers.state("refused", "The token is missing or wrong. Copy the whole address that `inril up` prints.");
      return;
    }
    const address = `${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/ws`;
    const socket = new WebSocket(address, ["inril", `token.${this.token}`]);
    socket.binaryType = "arraybuffer";
    socket.onopen = () => {
      socket.send(JSON.stringify({ kind: "hello", name: this.name }));
      this.socket = socket;
      this.heardAt = performance.now();
    };
    socket.onmessage = (event) => {
      this.heardAt = performance.now();
      if (typeof event.data === "string") this.hear(JSON.parse(event.data));
      else this.hearFrame(event.data);
    };
    socket.onclose = (event) => {
      this.socket = null;
      this.handlers.state("lost", event.reason);
      setTimeout(() => this.connect(), RETRY_MS);
    };
  }

  hear(message) {
    if (message.kind === "beat") this.beat = message.beat;
    else this.handlers.message(message);
  }

  hearFrame(buffer) {
    const length = new DataView(buffer).getUint16(0);
    const head = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 2, length)));
    this.handlers.frame(head, new Blob([new Uint8Array(buffer, 2 + length)], { type: "image/jpeg" }));
  }

  /** Often: a connection that is silent is lost, even if nobody has said so. */
  watch() {
    if (this.isOpen && performance.now() - this.heardAt > this.silentMs) {
      const socket = this.socket;
      this.socket = null;
      socket.onclose = null;
      socket.close();
      this.handlers.state("lost", "the console is silent");
      setTimeout(() => this.connect(), RETRY_MS);
    }
  }

  send(message) {
    if (this.isOpen) this.socket.send(JSON.stringify(message));
    return this.isOpen;
  }

  /** The answer over HTTP; null: none came. */
  ask(path, method) {
    const headers = { Authorization: `Bearer ${this.token}` };
    return fetch(path, { method, headers, signal: AbortSignal.timeout(ANSWER_MS) }).catch(() => null);
  }

  /** Over the WebSocket and beside it, so that one slow connection does not keep it. */
  async stop() {
    this.send({ kind: "stop" });
    const answer = await this.ask("/stop", "POST");
    if (answer === null) return { success: false, message: "the console does not answer" };
    return answer.json().catch(() => ({ success: false, message: `the console answers ${answer.status}` }));
  }
}
