// Search on pages that are opened from disk: browsers start no worker there, so an invisible frame stands in for it.
"use strict"

class FrameWorker extends EventTarget {
  constructor(address) {
    super()
    this.frame = document.createElement("iframe")
    this.frame.hidden = true
    document.body.append(this.frame)
    const inner = this.frame.contentWindow
    inner.document.open()
    inner.document.write(
      "<script>" +
        "postMessage = message => parent.dispatchEvent(new MessageEvent('message', { data: message, source: window }));" +
        "importScripts = (...scripts) => scripts.reduce((before, script) => before.then(() => new Promise((done, failed) => {" +
        "const tag = document.createElement('script');" +
        "tag.src = script; tag.onload = done; tag.onerror = failed; document.body.append(tag)" +
        "})), Promise.resolve())" +
        "</" + "script><body><script src=\"" + encodeURI(address) + "\"></" + "script></body>"
    )
    inner.document.close()
    this.ready = new Promise(done => { this.frame.onload = done })
    window.addEventListener("message", event => {
      if (event.source !== inner) return
      event.stopImmediatePropagation()
      const passed = new MessageEvent("message", { data: event.data })
      this.dispatchEvent(passed)
      if (this.onmessage) this.onmessage(passed)
    })
  }

  postMessage(message) {
    this.ready.then(() =>
      this.frame.contentWindow.dispatchEvent(new MessageEvent("message", { data: message }))
    )
  }

  terminate() {
    this.frame.remove()
  }
}

if (location.protocol === "file:") window.Worker = FrameWorker
