/** A grid of cards of one size, of which only those near the screen are elements: 100,000 scroll as ten do. */

/** @typedef {import("../../types.js").WallCard} WallCard */

const GAP = 20;
const ROWS_AROUND = 2;

export class VirtualGrid {
  /** @type {WallCard[]} */
  #cards = [];
  /** @type {Map<string, HTMLElement>} */
  #elements = new Map();
  #pending = 0;
  /** Called when cards have been placed. */
  onRendered = () => {};

  /**
   * @param {HTMLElement} host its class sets `--card` (least width) and `--foot` (height below the square)
   * @param {(card: WallCard) => HTMLElement} make an element, whose property `card` is set when the card changes
   * @param {() => void} onNearEnd
   */
  constructor(host, make, onNearEnd) {
    this.host = host;
    this.make = make;
    this.onNearEnd = onNearEnd;
    const later = () => (this.#pending ||= requestAnimationFrame(() => this.#render()));
    const sizes = new ResizeObserver(later);
    sizes.observe(host);
    addEventListener("scroll", later, { passive: true });
    this.stop = () => {
      sizes.disconnect();
      removeEventListener("scroll", later);
      cancelAnimationFrame(this.#pending);
    };
    this.later = later;
  }

  /** @param {WallCard[]} cards */
  show(cards) {
    this.#cards = cards;
    this.later();
  }

  #geometry() {
    const style = getComputedStyle(this.host);
    const width = this.host.clientWidth;
    const least = parseFloat(style.getPropertyValue("--card")) || 300;
    const foot = parseFloat(style.getPropertyValue("--foot")) || 80;
    const columns = Math.max(1, Math.floor((width + GAP) / (least + GAP)));
    const side = (width - GAP * (columns - 1)) / columns;
    return { columns, side, row: side + foot + GAP };
  }

  #render() {
    this.#pending = 0;
    const { columns, side, row } = this.#geometry();
    if (side <= 0) return;
    const rows = Math.ceil(this.#cards.length / columns);
    const top = -this.host.getBoundingClientRect().top;
    const first = Math.max(0, Math.floor(top / row) - ROWS_AROUND) * columns;
    const last = (Math.ceil((top + innerHeight) / row) + ROWS_AROUND) * columns;
    this.host.style.height = `${Math.max(0, rows * row - GAP)}px`;
    this.#place(first, Math.max(first, last), { columns, side, row });
    if (last >= this.#cards.length) this.onNearEnd();
    this.onRendered();
  }

  /** @param {number} first @param {number} last @param {{columns: number, side: number, row: number}} geometry */
  #place(first, last, { columns, side, row }) {
    const kept = new Map();
    const shown = this.#cards.slice(first, last);
    shown.forEach((card, k) => {
      const element = this.#elements.get(card.key) ?? this.make(card);
      const index = first + k;
      /** @type {any} */ (element).card = card;
      element.style.width = `${side}px`;
      element.style.height = `${row - GAP}px`;
      element.style.transform = `translate(${(index % columns) * (side + GAP)}px, ${Math.floor(index / columns) * row}px)`;
      element.setAttribute("aria-posinset", String(index + 1));
      element.setAttribute("aria-setsize", String(this.#cards.length));
      kept.set(card.key, element);
    });
    for (const [key, element] of this.#elements) if (!kept.has(key)) element.remove();
    let before = /** @type {Element | null} */ (this.host.firstElementChild);
    for (const element of kept.values()) {
      if (before === element) before = element.nextElementSibling;
      else this.host.insertBefore(element, before);
    }
    this.#elements = kept;
  }
}
