/** The page's words in English and Chinese, and numbers and prices as each language writes them. */

import { recall, remember } from "./identity.js";

const plural = (count, one, many) => (count === 1 ? one : many);

const english = {
  "page.title": "Find it by photo",
  "page.lead": "Show us a thing. We look for the same item in the shop.",
  "page.skip": "Skip to results",
  "page.home": "New search",
  "page.switch": "中文",
  "page.switchLabel": "中文 (switch language)",
  "page.signOut": "Sign out",
  "page.privacy": "The photo is made smaller on your device and sent without location or camera data.",

  "steps.photo": "Photograph the thing, or use a picture you have",
  "steps.box": "Drag a box around what you mean",
  "steps.compare": "Compare the same item from every seller",

  "take.choose": "Choose a photo",
  "take.camera": "Take a photo",
  "take.drop": "or drop one here, or paste it from the clipboard",
  "take.dropNow": "Drop the photo to search",
  "take.formats": "JPEG, PNG, WebP, AVIF, HEIC, GIF, BMP or TIFF, up to 20 MB",
  "take.new": "New photo",
  "take.reading": "Reading the photo …",
  "take.onlyFirst": "Several files: the first photo is used.",
  "take.nothing": "There was no picture in that. Save it as a file first, or take a photo.",

  "camera.title": "Take a photo",
  "camera.shutter": "Take the photo",
  "camera.trouble": "No camera can be used: it is missing, busy, or not allowed for this page. Choose a file instead.",
  "dialog.close": "Close",

  "query.title": "Your photo",
  "query.product": "More like this product",
  "query.hint": "Drag the corners, or draw a box around what you want.",
  "query.detected": "We searched for what is in the frame. Drag the corners if you mean something else.",
  "query.objects": "We searched for what is in the frame. Choose a dot to search for that instead, or drag the corners.",
  "query.unseen": "Your browser cannot show this kind of photo; the search works all the same.",
  "query.whole": "Whole photo",
  "query.share": "Copy link",
  "query.shareNote": "A photo cannot be in a link: the link holds category and filters only.",
  "query.shareNoteProduct": "The link holds this product, category and filters.",
  "query.copied": "Link copied.",
  "query.copyBy": "Copy this link:",
  "query.lost": "The photo was on this page only and is gone after a reload. Please choose it again.",

  "box.area": ({ left, top, width, height }) =>
    `${left} percent from the left, ${top} percent from the top, ${width} percent wide, ${height} percent high`,
  "box.corner": ({ left, top }) => `${left} percent from the left, ${top} percent from the top`,
  "box.object": ({ number }) => `Search object ${number} instead`,
  "box.areaLabel": "Searched area; arrow keys move it",
  "box.role": "movable in two directions",
  "box.top-left": "Top left corner of the searched area",
  "box.top-right": "Top right corner of the searched area",
  "box.bottom-left": "Bottom left corner of the searched area",
  "box.bottom-right": "Bottom right corner of the searched area",
  "box.show": "Show the photo and its box",

  "category.label": "Category",
  "category.auto": "Automatic",
  "category.autoIs": ({ name }) => `Automatic: ${name}`,
  "category.other": "Other …",

  "filters.title": "Filters",
  "filters.open": ({ count }) => (count ? `Filters (${count})` : "Filters"),
  "filters.min": "Price from",
  "filters.max": "Price to",
  "filters.brand": "Brand",
  "filters.brandHint": "Several: separate with commas",
  "filters.stock": "In stock only",
  "filters.expression": "Filter expression",
  "filters.expressionHint": 'For example: colour = "red" AND rating >= 4',
  "filters.apply": "Apply",
  "filters.clear": "Clear filters",

  "results.title": "Results",
  "results.searching": "Searching …",
  "results.count": ({ count }) => plural(count, "1 result", `${formatNumber(count)} results`),
  "results.best": ({ score }) => `best match ${score}`,
  "results.more": "Show more",
  "results.added": ({ count }) => plural(count, "1 more result", `${count} more results`),
  "results.end": "That is all.",

  "weak.title": "No good match",
  "weak.detail": ({ best, wanted }) =>
    `The best result is the same item with a probability of ${best}, less than ${wanted}. The nearest are shown below.`,
  "none.title": "Nothing found",
  "none.detail": "No item in the shop fits this photo with these settings.",
  "widen.filters": "Drop the filters",
  "widen.category": "Drop the category",
  "widen.box": "Search the whole photo",
  "widen.photo": "Try another photo",

  "card.score": ({ score }) => `The same item with a probability of ${score}`,
  "card.same": "Same item",
  "card.more": "More like this",
  "card.moreOf": ({ title }) => `More like this: ${title}`,
  "card.sellers": ({ count }) => `+${count} ${plural(count, "seller", "sellers")}`,
  "card.sellersOf": ({ count, title }) => `${count} more ${plural(count, "seller", "sellers")} of: ${title}`,
  "card.newTab": "(opens in a new tab)",
  "sellers.title": "Sold by several sellers",
  "sellers.visit": "Visit",
  "sellers.visitOf": ({ title }) => `Visit: ${title} (opens in a new tab)`,
  "sellers.rest": ({ count }) => `and ${count} more`,

  "error.title": "The search did not work",
  "error.retry": "Try again",
  "error.unreachable": "The server cannot be reached. Check the connection and try again.",
  "error.offline": "You are offline. The search starts again as soon as there is a connection.",
  "error.timeout": "The server took longer than 30 seconds. Try again, or choose a smaller part of the photo.",
  "error.unreadable": "The server's answer could not be read. Please try again later.",
  "error.busy": ({ seconds }) =>
    `The shop is not ready to answer. Try again in ${seconds} ${plural(seconds, "second", "seconds")}.`,
  "error.notFound": "This product is no longer in the shop. Start with a photo instead.",
  "error.key": "This shop asks for an access key.",
  "error.keyLabel": "Access key",
  "error.keyUse": "Use this key",
  "error.keyWrong": "This key is not accepted. Check that it is complete, or ask the shop for a new one.",
  "error.keyScope": "This key may not do that. Use one that may.",
  "error.request": ({ id }) => `Request ${id}`,
  "photo.title": "This file cannot be used",
  "photo.empty": ({ name }) => `“${name}” is empty. Choose another photo.`,
  "photo.unsupported": ({ name }) =>
    `“${name}” is not a picture we can read. Use JPEG, PNG, WebP, AVIF, HEIC, GIF, BMP or TIFF.`,
  "photo.too-large": ({ name }) => `“${name}” is too large to send: at most 20 MB. Choose a smaller copy.`,
  "photo.too-small": ({ name }) => `“${name}” is too small: each side needs at least 32 pixels. Choose a larger copy.`,
};

const chinese = {
  "page.title": "拍照找同款",
  "page.lead": "给我们看一件东西，帮你在店里找到同款。",
  "page.skip": "跳到结果",
  "page.home": "重新搜索",
  "page.switch": "English",
  "page.switchLabel": "English（切换语言）",
  "page.signOut": "退出",
  "page.privacy": "照片会先在你的设备上缩小，发送时不含位置和相机信息。",

  "steps.photo": "拍下它，或用手边的图片",
  "steps.box": "框出你想找的东西",
  "steps.compare": "比较各家同款",

  "take.choose": "选择照片",
  "take.camera": "拍照",
  "take.drop": "也可以把照片拖到这里，或从剪贴板粘贴",
  "take.dropNow": "松开即可搜索",
  "take.formats": "支持 JPEG、PNG、WebP、AVIF、HEIC、GIF、BMP、TIFF，最大 20 MB",
  "take.new": "换张照片",
  "take.reading": "正在读取照片……",
  "take.onlyFirst": "有多个文件，只使用第一张照片。",
  "take.nothing": "这里面没有图片。请先保存为文件，或直接拍照。",

  "camera.title": "拍照",
  "camera.shutter": "按下快门",
  "camera.trouble": "无法使用相机：没有相机、正被占用，或本页面未获许可。请改为选择文件。",
  "dialog.close": "关闭",

  "query.title": "你的照片",
  "query.product": "与这件商品相似",
  "query.hint": "拖动四角，或框出你想找的东西。",
  "query.detected": "已搜索框内的物体。如果不是你要找的，请拖动四角。",
  "query.objects": "已搜索框内的物体。点按圆点可改搜那一个，也可以拖动四角。",
  "query.unseen": "浏览器无法显示这种照片，但不影响搜索。",
  "query.whole": "整张照片",
  "query.share": "复制链接",
  "query.shareNote": "链接不能带上照片，只包含类目和筛选条件。",
  "query.shareNoteProduct": "链接包含这件商品、类目和筛选条件。",
  "query.copied": "链接已复制。",
  "query.copyBy": "请复制此链接：",
  "query.lost": "照片只保存在当前页面，刷新后就没有了。请重新选择。",

  "box.area": ({ left, top, width, height }) => `距左 ${left}%，距上 ${top}%，宽 ${width}%，高 ${height}%`,
  "box.corner": ({ left, top }) => `距左 ${left}%，距上 ${top}%`,
  "box.object": ({ number }) => `改为搜索物体 ${number}`,
  "box.areaLabel": "搜索区域，可用方向键移动",
  "box.role": "可沿两个方向移动",
  "box.top-left": "搜索区域左上角",
  "box.top-right": "搜索区域右上角",
  "box.bottom-left": "搜索区域左下角",
  "box.bottom-right": "搜索区域右下角",
  "box.show": "查看照片和搜索框",

  "category.label": "类目",
  "category.auto": "自动",
  "category.autoIs": ({ name }) => `自动：${name}`,
  "category.other": "其他……",

  "filters.title": "筛选",
  "filters.open": ({ count }) => (count ? `筛选（${count}）` : "筛选"),
  "filters.min": "最低价",
  "filters.max": "最高价",
  "filters.brand": "品牌",
  "filters.brandHint": "多个品牌用逗号分隔",
  "filters.stock": "只看有货",
  "filters.expression": "筛选表达式",
  "filters.expressionHint": '例如：colour = "red" AND rating >= 4',
  "filters.apply": "应用",
  "filters.clear": "清除筛选",

  "results.title": "搜索结果",
  "results.searching": "正在搜索……",
  "results.count": ({ count }) => `${formatNumber(count)} 个结果`,
  "results.best": ({ score }) => `最佳匹配 ${score}`,
  "results.more": "显示更多",
  "results.added": ({ count }) => `又显示了 ${count} 个结果`,
  "results.end": "没有更多了。",

  "weak.title": "没有找到很像的商品",
  "weak.detail": ({ best, wanted }) => `最佳结果是同款的概率为 ${best}，低于 ${wanted}。下面是最接近的商品。`,
  "none.title": "没有找到",
  "none.detail": "按当前设置，店里没有符合这张照片的商品。",
  "widen.filters": "取消筛选",
  "widen.category": "取消类目",
  "widen.box": "搜索整张照片",
  "widen.photo": "换一张照片",

  "card.score": ({ score }) => `是同款的概率为 ${score}`,
  "card.same": "同款",
  "card.more": "找相似",
  "card.moreOf": ({ title }) => `找相似：${title}`,
  "card.sellers": ({ count }) => `另有 ${count} 家`,
  "card.sellersOf": ({ count, title }) => `另有 ${count} 家在卖：${title}`,
  "card.newTab": "（在新标签页打开）",
  "sellers.title": "多家在卖",
  "sellers.visit": "去看看",
  "sellers.visitOf": ({ title }) => `去看看：${title}（在新标签页打开）`,
  "sellers.rest": ({ count }) => `还有 ${count} 家`,

  "error.title": "搜索没有成功",
  "error.retry": "重试",
  "error.unreachable": "无法连接服务器。请检查网络后重试。",
  "error.offline": "你已离线。网络恢复后会自动重新搜索。",
  "error.timeout": "服务器超过 30 秒没有回答。请重试，或框选更小的区域。",
  "error.unreadable": "无法读取服务器的回答，请稍后再试。",
  "error.busy": ({ seconds }) => `店铺暂时无法回答，请在 ${seconds} 秒后重试。`,
  "error.notFound": "这件商品已不在店里。请用照片搜索。",
  "error.key": "这家店需要访问密钥。",
  "error.keyLabel": "访问密钥",
  "error.keyUse": "使用此密钥",
  "error.keyWrong": "此密钥无效。请检查是否完整，或向店家索取新的密钥。",
  "error.keyScope": "此密钥没有这项权限，请换一个。",
  "error.request": ({ id }) => `请求 ${id}`,
  "photo.title": "无法使用这个文件",
  "photo.empty": ({ name }) => `“${name}”是空文件，请换一张照片。`,
  "photo.unsupported": ({ name }) =>
    `“${name}”不是可读取的图片。请使用 JPEG、PNG、WebP、AVIF、HEIC、GIF、BMP 或 TIFF。`,
  "photo.too-large": ({ name }) => `“${name}”太大，最多 20 MB。请换一张较小的照片。`,
  "photo.too-small": ({ name }) => `“${name}”太小，每边至少 32 像素。请换一张较大的照片。`,
};

/** @typedef {"en" | "zh"} Language */

export const messages = { en: english, zh: chinese };
const locales = { en: "en", zh: "zh-CN" };

/** @type {Language} */
let language = "en";

/** @returns {Language} */
export const currentLanguage = () => language;

/**
 * The language to start with: what the link says, what was chosen before, what the browser prefers.
 * @param {string} asked the link's `lang`
 * @returns {Language}
 */
export function preferredLanguage(asked) {
  const wishes = [asked, recall("localStorage", "language"), ...(navigator.languages ?? [navigator.language])];
  for (const wish of wishes) {
    const short = String(wish ?? "")
      .toLowerCase()
      .split("-")[0];
    if (short in messages) return short;
  }
  return "en";
}

/**
 * Switch the page's language: every element with data-i18n (text), data-i18n-label (name for screen readers) or
 * data-i18n-role (what kind of control it is) or data-i18n-title (shown under a resting pointer).
 * @param {Language} next
 * @param {{store?: boolean}} options store: the user chose it
 */
export function setLanguage(next, { store = false } = {}) {
  language = next;
  if (store) remember("localStorage", "language", next);
  document.documentElement.lang = locales[next];
  document.title = `${t("page.title")} · sameitem`;
  translate(document);
  for (const template of document.querySelectorAll("template")) translate(template.content);
}

function translate(root) {
  for (const element of root.querySelectorAll("[data-i18n-title]")) element.title = t(element.dataset.i18nTitle);
  for (const element of root.querySelectorAll("[data-i18n]")) element.textContent = t(element.dataset.i18n);
  for (const element of root.querySelectorAll("[data-i18n-label]")) {
    element.setAttribute("aria-label", t(element.dataset.i18nLabel));
  }
  for (const element of root.querySelectorAll("[data-i18n-role]")) {
    element.setAttribute("aria-roledescription", t(element.dataset.i18nRole));
  }
}

/** @param {string} key @param {Record<string, string | number>} values @returns {string} in the page's language */
export function t(key, values = {}) {
  const message = messages[language][key];
  return typeof message === "function" ? message(values) : message;
}

/** @param {number} value @returns {string} */
export const formatNumber = (value) => new Intl.NumberFormat(locales[language]).format(value);

/** @param {unknown} share 0..1 @returns {string} whole percent, "" where there is no number */
export function formatPercent(share) {
  if (typeof share !== "number" || !Number.isFinite(share)) return "";
  const percent = new Intl.NumberFormat(locales[language], { style: "percent", maximumFractionDigits: 0 });
  return percent.format(Math.min(Math.max(share, 0), 1));
}

/**
 * @param {unknown} price @param {unknown} currency ISO 4217, or whatever the shop wrote
 * @returns {string} "" where there is no price
 */
export function formatPrice(price, currency) {
  if (typeof price !== "number" || !Number.isFinite(price)) return "";
  try {
    return new Intl.NumberFormat(locales[language], {
      style: "currency",
      currency,
      currencyDisplay: "narrowSymbol",
    }).format(price);
  } catch {
    const plain = new Intl.NumberFormat(locales[language], {
      minimumFractionDigits: 0,
      maximumFractionDigits: 2,
    }).format(price);
    return [typeof currency === "string" ? currency : "", plain].filter(Boolean).join(" ");
  }
}
