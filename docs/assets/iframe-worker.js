// Search for pages that are opened from the file system: browsers refuse them a Worker, so a frame runs its script.
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(url) {
      super()
      const frame = document.createElement("iframe")
      frame.hidden = true
      document.body.append(frame)
      const inside = frame.contentWindow
      const waiting = []
      let ready = false
      const hand = data => inside.dispatchEvent(new inside.MessageEvent("message", { data }))
      inside.postMessage = data => this.dispatchEvent(new MessageEvent("message", { data }))
      this.postMessage = data => (ready ? hand(data) : waiting.push(data))
      const script = inside.document.createElement("script")
      script.src = url
      script.onload = () => {
        ready = true
        waiting.forEach(hand)
      }
      inside.document.body.append(script)
    }
  }
}
